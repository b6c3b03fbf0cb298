/* rewrite_impl.h - what normalizers of tokenizer.json make of a text, character by character or as
 * Unicode's normal forms. Bytes that are not UTF-8 stay as they are. All Local. */
#ifndef ESPALIER_REWRITE_IMPL_H
#define ESPALIER_REWRITE_IMPL_H

#include "text_impl.h"

/* Appends what becomes of n bytes of s. */
typedef void esp_rewrite(esp_byte_string *out, const char *s, size_t n);

esp_rewrite esp_rewrite_nfc, esp_rewrite_nfd, esp_rewrite_nfkc, esp_rewrite_nfkd;
esp_rewrite esp_rewrite_lowercase;
esp_rewrite esp_rewrite_titlecase;    /* each character as at the start of a title      */
esp_rewrite esp_rewrite_no_marks;     /* combining marks go (StripAccents)              */
esp_rewrite esp_rewrite_no_nonspace;  /* ... those alone that take no room (BERT)       */
esp_rewrite esp_rewrite_nmt;          /* SentencePiece's nmt: controls go, spaces ' '   */
esp_rewrite esp_rewrite_bert_clean;   /* controls go, white space becomes ' '           */
esp_rewrite esp_rewrite_bert_chinese; /* ' ' around Chinese characters                 */
esp_rewrite esp_rewrite_no_left;      /* white space at the start goes                  */
esp_rewrite esp_rewrite_no_right;     /* white space at the end goes                    */
esp_rewrite esp_rewrite_alphabet;     /* every byte as its character of the byte alphabet */

#endif
