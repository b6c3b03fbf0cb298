/* tokenizer_impl.h - what a tokenizer is once its files are read. */
#ifndef ESPALIER_TOKENIZER_IMPL_H
#define ESPALIER_TOKENIZER_IMPL_H

#include <jansson.h>

#include "added_impl.h"
#include "bpe_impl.h"
#include "espalier/digest.h"
#include "espalier/tokenizer.h"
#include "sentencepiece_shim.h"
#include "pretokenize_impl.h"

#define ESP_METASPACE "\xE2\x96\x81" /* U+2581, a space in a metaspace vocabulary */

/* What to do about a tokenizer that is refused. */
#define ESP_ELSEWHERE "make the ids elsewhere and give them as calibration.tokens"

/* A token in decoded text. */
typedef struct esp_token {
    char *text; /* [n] owned; NULL: no token has this id */
    size_t n;
    char *first; /* owned; what is shown of it at the start of a text; NULL: text */
    bool special;
    bool byte; /* a piece "<0xNN>": its bytes may be part of a character */
    bool
        border; /* an added token that the steps never saw: a new stretch of text begins after it */
} esp_token;

/* How the text of a token follows from its piece: the decoders of tokenizer.json. */
typedef struct esp_decoder {
    esp_pretokenizer replace;
    bool byte_level;     /* the characters are bytes in the byte alphabet              */
    bool byte_fallback;  /* a piece "<0xNN>" is that byte                              */
    bool fused;          /* what follows is about the whole text, not each token       */
    size_t first_spaces; /* spaces that the text loses at its start                    */
    bool first_bare;     /* the first token loses each U+2581                          */
} esp_decoder;

struct esp_tokenizer {
    esp_sp *
        sp; /* of tokenizer.model; NULL: tokenizer.json, that is normalizer, pre_tokenizer and bpe */
    int32_t first_id;            /* id of the first piece of sp */
    esp_pretokenizer normalizer; /* before sp as well */
    esp_pretokenizer pre_tokenizer;
    esp_bpe bpe;
    char **piece; /* [n_pieces] owned; keys of bpe.ids */
    size_t n_pieces;
    esp_decoder decoder;

    esp_added_set added;
    esp_token *token; /* [n_tokens] owned */
    size_t n_tokens;

    bool prefixed; /* encoding puts a space before a stretch of text, decoding takes it away ... */
    bool
        prefixed_every; /* ... before every stretch between added tokens, not the first alone         */

    char digest[ESP_DIGEST_SIZE];
    esp_ids before, after; /* added around a text by the model's own rules */
    bool prompt_first;     /* before goes between a prompt and its answer  */
    int32_t bos, eos;
};

/* Fill *t (zeroed but for bos and eos, -1) from the files of the folder; the caller frees t in any
 * case. ESP_EFORMAT, ESP_EIO. Local. */
esp_status esp_tokenizer_read_json(esp_tokenizer *t, const char *dir);
esp_status esp_tokenizer_read_pair(esp_tokenizer *t, const char *dir); /* vocab.json, merges.txt */
esp_status esp_tokenizer_read_model(esp_tokenizer *t, const char *dir);
esp_status esp_tokenizer_read_ice(esp_tokenizer *t, const char *dir); /* ice_text.model */

/* Classes of transformers that make merges of tokenizer.model; ESP_MERGES_NONE: SentencePiece itself. */
typedef enum esp_merges_class {
    ESP_MERGES_NONE,
    ESP_MERGES_LLAMA,
    ESP_MERGES_CODE_LLAMA,
    ESP_MERGES_GEMMA
} esp_merges_class;

/* config: of tokenizer_config.json, or NULL. Local. */
esp_status esp_tokenizer_read_merges(esp_tokenizer *t, const esp_sp *sp, esp_merges_class class,
                                     const char *dir, const char *path, const json_t *config);

/* "legacy" of tokenizer_config.json: a space goes before each stretch of text between added tokens, not
 * the first alone; fallback where the key is absent. Local. */
bool esp_tokenizer_legacy(const json_t *config, bool fallback);

/* The content of a tokenizer.json that the caller has; path is for messages. Local. */
esp_status esp_tokenizer_read_root(esp_tokenizer *t, const json_t *root, const char *path,
                                   bool *has_template);

/* Steps of tokenizer.json's normalizer and pre_tokenizer, and the decoder. Local. */
esp_status esp_tokenizer_read_steps(esp_tokenizer *t, const json_t *root, const char *path);

/* tokenizer_config.json and special_tokens_map.json, where they are: the ids of BOS and EOS, and
 * unless has_template whether they are put around a text; add_bos is the rule where the file has none.
 * ESP_EFORMAT for a name that is no token. Local. */
esp_status esp_tokenizer_read_rules(esp_tokenizer *t, const char *dir, bool has_template,
                                    bool add_bos);

/* One added token from its JSON object; where is the field, for messages. Local. */
esp_status esp_tokenizer_add_token(esp_tokenizer *t, const json_t *token, int32_t id,
                                   const char *path, const char *where);

/* Added tokens of tokenizer_config.json and added_tokens.json, where they are: both list the same ones
 * where both are there, and the first says more. Local. */
esp_status esp_tokenizer_read_added(esp_tokenizer *t, const char *dir);

/* The tokens that tokenizer_config.json and special_tokens_map.json name are sought in text. Local. */
esp_status esp_tokenizer_add_named(esp_tokenizer *t, const char *dir);

/* Id of a token by its text, -1: none; an added token comes before a piece. Local. */
int32_t esp_tokenizer_find(const esp_tokenizer *t, const char *content);

/* Declares the text of a token. ESP_EFORMAT for an id out of bounds. Local. */
esp_status esp_tokenizer_set(esp_tokenizer *t, int32_t id, const char *text, size_t n);

/* The same from its piece, as the decoder reads it. Local. */
esp_status esp_tokenizer_set_piece(esp_tokenizer *t, int32_t id, const char *piece, size_t n);

/* Text of a piece by the decoder, replacing what out holds. Local. */
esp_status esp_tokenizer_decode_piece(const esp_tokenizer *t, esp_pieces *out, const char *piece,
                                      size_t n);

/* Once steps and added tokens are known: sets what is searched for each added token in text, and what it
 * reads back as. ESP_EFORMAT for one of which the normalizer leaves nothing. Local. */
esp_status esp_tokenizer_prepare_added(esp_tokenizer *t);

#endif
