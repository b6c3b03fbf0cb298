/* unit_sentencepiece.c - tokenizer.model: trained, used, and that of a shared model. */
#include "tokenizer_checks.h"

static void put_corpus(page *p)
{
    static const char *const words[] = { "red", "hen", "ran", "ten", "then",
                                         "hat", "rat", "and", "17",  "42" };

    for (unsigned i = 0; i < 4000; i++) {
        put(p, words[(i * i + i / 7) % COUNT(words)]);
        put(p, i % 11 == 10 ? ".\n" : i % 97 == 96 ? "!\n\n" : " ");
    }
}

static void sentencepiece(void)
{
    char *dir = esp_test_dir("trained"), *again = esp_test_dir("trained-again");
    char *corpus = esp_path(dir, "corpus.txt"), *a = NULL, *b = NULL;
    char *model = esp_path(dir, "tokenizer.model"), *other = esp_path(again, "tokenizer.model");
    size_t n_a = 0, n_b = 1;
    esp_tokenizer *t;
    page p = { 0 };

    CU_ASSERT_EQUAL(esp_test_remove(dir), ESP_OK);
    CU_ASSERT_EQUAL(esp_test_remove(again), ESP_OK);
    put_corpus(&p);
    write_page(dir, "corpus.txt", &p);
    CU_ASSERT_EQUAL(esp_tokenizer_train(dir, corpus, 300, true), ESP_OK);
    CU_ASSERT_EQUAL(esp_tokenizer_train(again, corpus, 300, true), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_read(&a, &n_a, model), ESP_OK);
    CU_ASSERT_EQUAL(esp_file_read(&b, &n_b, other), ESP_OK);
    CU_ASSERT(n_a == n_b && memcmp(a, b, n_a) == 0); /* the same corpus, the same file */
    CU_ASSERT_EQUAL(esp_tokenizer_train(again, corpus, 300, false),
                    ESP_EUSAGE); /* files are there */
    CU_ASSERT_EQUAL(esp_tokenizer_train(again, corpus, 100, true), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_tokenizer_train(again, corpus, 100000, true), ESP_EUSAGE);

    t = open_dir(dir);
    CU_ASSERT_EQUAL(esp_tokenizer_size(t), 300);
    CU_ASSERT_EQUAL(esp_tokenizer_bos(t), 1);
    CU_ASSERT_EQUAL(esp_tokenizer_eos(t), 2);
    GIVES(t, "\n", true, 1, 286, 13); /* BOS, the space before a text, the byte */
    GIVES(t, "<s></s><unk>", false, 1, 2, 0);
    GOES_ROUND(t, "the red  hen ran\tto 1742\r\n\n \xF0\x9F\x98\x80 <s>ten</s>hats  ");
    GOES_ROUND(t, "not \xFF\xC3 UTF-8");
    esp_tokenizer_free(t);

    write_text(dir, "tokenizer_config.json", "{`add_bos_token`: true}"); /* SentencePiece itself */
    t = open_dir(dir);
    GIVES(t, "\n", true, 1, 286, 13);
    GOES_ROUND(t, "the red  hen ran\tto 1742\r\n\n \xF0\x9F\x98\x80 <s>ten</s> hats  ");
    CU_ASSERT_EQUAL(esp_tokenizer_encode(t, &(esp_ids){ 0 }, "a\xFF", 2, false), ESP_EFORMAT);
    esp_tokenizer_free(t);

    write_text(dir, "added_tokens.json", "{`<pad>`: 300, `<mask>`: 302}");
    t = open_dir(dir);
    CU_ASSERT_EQUAL(esp_tokenizer_size(t), 303);
    GIVES(t, "<pad><mask>", false, 300, 302);
    GOES_ROUND(t, "ten<pad> hats <mask>");
    esp_tokenizer_free(t);

    free(a);
    free(b);
    free(model);
    free(other);
    free(corpus);
    free(dir);
    free(again);
}

/* The same vocabulary by the other file. Its normalizer folds spaces, so only such text goes round. */
static void shared_model(void)
{
    char *model = esp_test_shared("models/stories260K/tokenizer.model"),
         *dir = esp_test_dir("stories");
    char *copy = esp_path(dir, "tokenizer.model");
    esp_tokenizer *t;

    if (model) {
        CU_ASSERT_EQUAL(esp_mkdirs(dir), ESP_OK);
        CU_ASSERT_EQUAL(esp_file_copy(copy, model), ESP_OK);
        write_text(dir, "tokenizer_config.json", "{`add_bos_token`: true}");
        t = open_dir(dir);
        GIVES(t, SENTENCE, true, 1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395,
              317, 426);
        file_goes_round(t, "text/stories-valid.jsonl");
        esp_tokenizer_free(t);
    }
    free(copy);
    free(model);
    free(dir);
}

ESP_TEST_MAIN("sentencepiece", { "train and use", sentencepiece }, { "shared model", shared_model })
