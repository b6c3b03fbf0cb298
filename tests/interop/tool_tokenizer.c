/* tool_tokenizer.c - the ids of texts by the tokenizer of a folder, and the text that is shown for them, for
 * comparison with other programs.
 *
 *     tool_tokenizer FOLDER < TEXTS > RESULTS
 *
 * TEXTS has a JSON string per line, RESULTS an object per line: {"ids": [...], "text": "..."} or
 * {"error": "..."}.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "espalier/log.h"
#include "espalier/tokenizer.h"

static json_t *result_of(const esp_tokenizer *t, const json_t *text)
{
    esp_ids ids = { 0 };
    json_t *list = json_array(), *result = NULL;
    char *shown = NULL;
    size_t n_shown;
    esp_status st =
        esp_tokenizer_encode(t, &ids, json_string_value(text), json_string_length(text), true);

    st = st == ESP_OK ? esp_tokenizer_decode(t, &shown, &n_shown, ids.id, ids.n, true) : st;
    for (size_t i = 0; i < ids.n; i++) {
        json_array_append_new(list, json_integer(ids.id[i]));
    }
    if (st == ESP_OK) {
        result = json_pack("{s:O, s:s%}", "ids", list, "text", shown, n_shown);
    }
    if (!result) {
        result = json_pack("{s:s}", "error", st == ESP_OK ? "shows no UTF-8" : esp_error_message());
    }
    free(shown);
    json_decref(list);
    esp_ids_free(&ids);
    return result;
}

static void answer(const esp_tokenizer *t)
{
    size_t flags = JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL;
    json_t *text;

    while ((text = json_loadf(stdin, flags, NULL)) != NULL) {
        json_t *result = result_of(t, text);

        json_dumpf(result, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        putchar('\n');
        json_decref(result);
        json_decref(text);
    }
}

int main(int argc, char **argv)
{
    esp_tokenizer *t = NULL;
    esp_status st = ESP_EUSAGE;

    MPI_Init(&argc, &argv);
    esp_log_init(ESP_LOG_QUIET, true);
    if (argc == 2) {
        st = esp_tokenizer_open(&t, argv[1]);
    }
    if (st == ESP_OK) {
        answer(t);
    } else {
        fprintf(stderr, "tool_tokenizer: %s\n", argc == 2 ? esp_error_message() : "FOLDER < TEXTS");
    }
    esp_tokenizer_free(t);
    MPI_Finalize();
    return st == ESP_OK ? 0 : 1;
}
