/* work.h - what a part of the program has to do, by kinds of work that run at rates of their own. A part says
 * it from shapes, in esp_X_work beside esp_X; src/estimate has the rates.
 */
#ifndef ESPALIER_WORK_H
#define ESPALIER_WORK_H

typedef struct esp_work {
    double products;  /* FLOP of products with weights                                       */
    double attention; /* FLOP of scores, softmax and values                                  */
    double g, gf;     /* elements of a sample's gradient that are added to G; to both G and F */
    double moved;     /* bytes of memory read and written beside these                       */
    double chunks;    /* that pass one after another: they fill the stages of a pipeline      */
} esp_work;

#endif
