/* unit_folder.c - folders and whose they are: nothing that the program did not make is ever removed. */
#include <unistd.h>

#include "espalier/file.h"
#include "espalier/folder.h"
#include "test.h"

static const char *const names[] = { "config.json", "model*.safetensors", "sub/page.txt" };

static char *dir,
    *made; /* of the test under way: a fresh folder, and one in it that is made by the program */

static void put(const char *folder, const char *name, const char *text)
{
    char *path = esp_path(folder, name);
    FILE *f = fopen(path, "w");

    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
    free(path);
}

static bool there(const char *folder, const char *name)
{
    char *path = esp_path(folder, name);
    bool is = access(path, F_OK) == 0;

    free(path);
    return is;
}

static void begin(const char *test)
{
    dir = esp_test_fresh_dir(test);
    made = esp_path(dir, "made");
    CU_ASSERT_EQUAL(esp_folder_make(made, names, 3), ESP_OK);
    put(made, "config.json", "{}");
    put(made, "model-00001-of-00002.safetensors", "x");
}

static void end(void)
{
    free(made);
    free(dir);
}

/* Refused, the message names what is not ours, and all is as it was. */
static void refuses(const char *named)
{
    CU_ASSERT_EQUAL(esp_folder_check(made), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), named));
    CU_ASSERT_EQUAL(esp_folder_remove(made), ESP_EUSAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(esp_error_message(), named));
    CU_ASSERT_EQUAL(esp_remove(made), ESP_EUSAGE);
    CU_ASSERT(there(made, "config.json"));
    CU_ASSERT(there(made, "model-00001-of-00002.safetensors"));
}

static void test_mkdirs(void)
{
    char *deep;

    begin("mkdirs");
    deep = esp_path(dir, "a/b/c");
    CU_ASSERT_EQUAL(esp_mkdirs(deep), ESP_OK);
    CU_ASSERT_EQUAL(esp_mkdirs(deep), ESP_OK);
    CU_ASSERT(esp_dir_exists(deep));
    CU_ASSERT_FALSE(esp_file_exists(deep));
    free(deep);
    end();
}

/* What the marker names, what is half written, and folders below with a marker of their own. */
static void test_what_was_made_goes(void)
{
    char *sub, *own;
    static const char *const pattern = "step-*.h5";

    begin("ours");
    sub = esp_path(made, "sub");
    own = esp_path(made, "own");
    CU_ASSERT_EQUAL(esp_mkdirs(sub), ESP_OK);
    put(sub, "page.txt", "x");
    put(made, "other" ESP_PART, "x");
    CU_ASSERT_EQUAL(esp_folder_make(own, &pattern, 1), ESP_OK);
    put(own, "step-000012.h5", "x");
    CU_ASSERT_EQUAL(esp_folder_check(made), ESP_OK);
    CU_ASSERT(there(made, "config.json"));
    CU_ASSERT_EQUAL(esp_folder_remove(made), ESP_OK);
    CU_ASSERT_FALSE(there(dir, "made"));
    CU_ASSERT_EQUAL(esp_folder_remove(made), ESP_OK); /* nothing there */
    free(own);
    free(sub);
    end();
}

static void test_what_was_not_stays(void)
{
    static const char *const foreign[] = { "notes.txt", ".hidden", "config.json.orig", "sub/other",
                                           "deep/down/config.json" };
    char *sub, *deep;

    begin("foreign");
    sub = esp_path(made, "sub");
    deep = esp_path(made, "deep/down");
    CU_ASSERT_EQUAL(esp_mkdirs(sub), ESP_OK);
    CU_ASSERT_EQUAL(esp_mkdirs(deep), ESP_OK);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        char *path = esp_path(made, foreign[i]);

        put(made, foreign[i], "mine");
        refuses(foreign[i]);
        CU_ASSERT_EQUAL(esp_folder_check_made(made), ESP_OK); /* more may be put into it */
        CU_ASSERT_EQUAL(esp_folder_make(made, names, 3), ESP_OK);
        CU_ASSERT_EQUAL(unlink(path), 0);
        free(path);
    }
    CU_ASSERT_EQUAL(esp_folder_check(made), ESP_OK);
    free(deep);
    free(sub);
    end();
}

/* Without the marker, or with a file of that name that is none, a folder is somebody's. */
static void test_no_marker(void)
{
    char *marker, *beside;

    begin("unmarked");
    beside = esp_path(dir, "beside");
    marker = esp_path(made, ESP_MARKER);
    CU_ASSERT_EQUAL(unlink(marker), 0);
    refuses("did not make this folder");
    CU_ASSERT_EQUAL(esp_folder_check_made(made), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_folder_make(made, names, 3), ESP_EUSAGE);
    put(made, ESP_MARKER, "config.json\nmodel*.safetensors\n");
    refuses(ESP_MARKER);
    CU_ASSERT_EQUAL(esp_mkdirs(beside), ESP_OK);
    put(beside, ESP_MARKER, "nobody's");
    CU_ASSERT_EQUAL(esp_folder_remove(beside), ESP_EUSAGE);
    CU_ASSERT(there(beside, ESP_MARKER));
    free(beside);
    free(marker);
    end();
}

/* A link in it, and a link to it, are not followed. */
static void test_links(void)
{
    char *link, *kept, *beside;

    begin("links");
    link = esp_path(made, "link");
    kept = esp_path(dir, "kept");
    beside = esp_path(dir, "beside");
    CU_ASSERT_EQUAL(esp_mkdirs(kept), ESP_OK);
    put(kept, "file", "x");
    CU_ASSERT_EQUAL(symlink(kept, link), 0);
    refuses("link");
    CU_ASSERT(there(kept, "file"));
    CU_ASSERT_EQUAL(unlink(link), 0);
    CU_ASSERT_EQUAL(symlink(made, beside), 0);
    CU_ASSERT_EQUAL(esp_folder_remove(beside), ESP_EUSAGE);
    CU_ASSERT(there(made, "config.json"));
    free(beside);
    free(kept);
    free(link);
    end();
}

static void test_names(void)
{
    char **got;
    size_t n;

    begin("names");
    CU_ASSERT_EQUAL(esp_folder_add(made, "tokenizer.json"), ESP_OK);
    CU_ASSERT_EQUAL(esp_folder_add(made, "config.json"), ESP_OK); /* is in it */
    CU_ASSERT_EQUAL(esp_folder_add(dir, "x"), ESP_OK);            /* no marker, none is made */
    CU_ASSERT_FALSE(there(dir, ESP_MARKER));
    CU_ASSERT_EQUAL(esp_folder_names(&got, &n, dir), ESP_EUSAGE);
    CU_ASSERT_EQUAL(esp_folder_names(&got, &n, made), ESP_OK);
    CU_ASSERT_EQUAL_FATAL(n, 4);
    CU_ASSERT_STRING_EQUAL(got[1], "model*.safetensors");
    CU_ASSERT_STRING_EQUAL(got[3], "tokenizer.json");
    for (size_t i = 0; i < n; i++) {
        free(got[i]);
    }
    free(got);
    end();
}

static void commit_again(const char *name, esp_status want)
{
    char *part = esp_part_path(made);

    CU_ASSERT_EQUAL(esp_folder_make(part, &name, 1), ESP_OK);
    put(part, name, "2");
    CU_ASSERT_EQUAL(esp_commit(made), want);
    CU_ASSERT_EQUAL(esp_dir_exists(part), want != ESP_OK);
    free(part);
}

/* A folder takes the place of an older one as a whole: nothing of the older one is left in it. */
static void test_commit(void)
{
    char *old;

    begin("commit");
    old = esp_format("%s%s", made, ESP_OLD);
    commit_again("second", ESP_OK);
    CU_ASSERT(there(made, "second"));
    CU_ASSERT_FALSE(there(made, "config.json"));
    CU_ASSERT_FALSE(esp_dir_exists(old));

    CU_ASSERT_EQUAL(esp_folder_make(old, names, 3),
                    ESP_OK); /* of a job that died between two renames */
    put(old, "config.json", "0");
    commit_again("third", ESP_OK);
    CU_ASSERT(there(made, "third"));
    CU_ASSERT_FALSE(there(made, "second"));
    CU_ASSERT_FALSE(esp_dir_exists(old));

    CU_ASSERT_EQUAL(esp_mkdirs(old), ESP_OK);
    put(old, "mine", "0");
    commit_again("fourth", ESP_EUSAGE);
    CU_ASSERT(there(old, "mine"));
    CU_ASSERT(there(made, "third"));
    free(old);

    put(made, "mine", "0");
    commit_again("fifth", ESP_EUSAGE);
    CU_ASSERT(there(made, "mine"));
    CU_ASSERT(there(made, "third"));
    end();
}

ESP_TEST_MAIN("folder", { "make folders", test_mkdirs },
              { "what was made goes", test_what_was_made_goes },
              { "what was not stays", test_what_was_not_stays }, { "no marker", test_no_marker },
              { "links", test_links }, { "names", test_names }, { "commit", test_commit })
