// sentencepiece_shim.cc - SentencePiece behind C functions.
#include "sentencepiece_shim.h"

#include <cstdio>
#include <exception>
#include <string>
#include <unordered_map>
#include <vector>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

struct esp_sp {
    sentencepiece::SentencePieceProcessor processor;
};

namespace
{

int fail(const char *what, char *why, size_t n_why)
{
    std::snprintf(why, n_why, "%s", what);
    return -1;
}

// What body() returns as a status, or throws, as 0 or -1 with a reason.
template <typename Body> int guarded(Body body, char *why, size_t n_why)
{
    try {
        sentencepiece::util::Status st = body();

        return st.ok() ? 0 : fail(st.error_message(), why, n_why);
    } catch (const std::exception &e) {
        return fail(e.what(), why, n_why);
    } catch (...) {
        return fail("unknown exception", why, n_why);
    }
}

// The texts of a corpus as the trainer wants to see them.
class Texts : public sentencepiece::SentenceIterator
{
public:
    Texts(const char *const *texts, const size_t *n_bytes, size_t n) : texts_(texts), n_bytes_(n_bytes), n_(n)
    {
        load();
    }
    bool done() const override
    {
        return at_ == n_;
    }
    void Next() override
    {
        at_++;
        load();
    }
    const std::string &value() const override
    {
        return now_;
    }
    sentencepiece::util::Status status() const override
    {
        return sentencepiece::util::Status();
    }

private:
    void load()
    {
        if (at_ < n_) {
            now_.assign(texts_[at_], n_bytes_[at_]);
        }
    }
    const char *const *texts_;
    const size_t *n_bytes_;
    size_t n_, at_ = 0;
    std::string now_;
};

} // namespace

int esp_sp_open(esp_sp **sp, const char *path, char *why, size_t n_why)
{
    *sp = nullptr;
    return guarded(
        [&] {
            auto made = std::make_unique<esp_sp>();
            auto st = made->processor.Load(path);

            if (st.ok()) {
                *sp = made.release();
            }
            return st;
        },
        why, n_why);
}

void esp_sp_close(esp_sp *sp)
{
    delete sp;
}

size_t esp_sp_size(const esp_sp *sp)
{
    return static_cast<size_t>(sp->processor.GetPieceSize());
}

const char *esp_sp_piece(const esp_sp *sp, int32_t id)
{
    return sp->processor.IdToPiece(id).c_str();
}

esp_sp_kind esp_sp_kind_of(const esp_sp *sp, int32_t id)
{
    return sp->processor.IsUnknown(id)   ? ESP_SP_UNKNOWN
           : sp->processor.IsControl(id) ? ESP_SP_CONTROL
                                         : ESP_SP_NORMAL;
}

int32_t esp_sp_bos(const esp_sp *sp)
{
    return sp->processor.bos_id();
}

int32_t esp_sp_eos(const esp_sp *sp)
{
    return sp->processor.eos_id();
}

int esp_sp_encode(const esp_sp *sp, const char *text, size_t n, void (*add)(void *to, int32_t id), void *to,
                  char *why, size_t n_why)
{
    return guarded(
        [&] {
            std::vector<int> ids;
            auto st = sp->processor.Encode(absl::string_view(text, n), &ids);

            for (int id : ids) {
                add(to, id);
            }
            return st;
        },
        why, n_why);
}
