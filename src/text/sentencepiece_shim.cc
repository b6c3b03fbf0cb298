// sentencepiece_shim.cc - SentencePiece behind C functions.
#include "sentencepiece_shim.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

struct esp_sp {
    sentencepiece::SentencePieceProcessor processor;
    std::vector<bool> user; // [pieces] defined by the user; the library does not say
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

// A message of Protocol Buffers, field by field.
class Message
{
  public:
    Message(const char *at, size_t n) : at_(at), end_(at + n)
    {
    }
    // The next field; false at the end and where the bytes are no message.
    bool next()
    {
        uint64_t key;

        if (at_ == end_ || !number(&key)) {
            return false;
        }
        field = key >> 3;
        value = 0;
        data = at_;
        switch (key & 7) {
        case 0:
            return number(&value);
        case 1:
            return skip(8);
        case 2:
            return number(&value) && (data = at_, skip(value));
        case 5:
            return skip(4);
        default:
            return false;
        }
    }
    uint64_t field = 0, value = 0; // the number, or the bytes of data
    const char *data = nullptr;

  private:
    bool number(uint64_t *x)
    {
        *x = 0;
        for (int shift = 0; at_ < end_ && shift < 64; shift += 7) {
            uint64_t byte = static_cast<unsigned char>(*at_++);

            *x |= (byte & 127) << shift;
            if (byte < 128) {
                return true;
            }
        }
        return false;
    }
    bool skip(uint64_t n)
    {
        if (n > static_cast<uint64_t>(end_ - at_)) {
            return false;
        }
        at_ += n;
        return true;
    }
    const char *at_, *end_;
};

// Field 1 of the file is a piece, its field 3 the kind, 4 of them the user's.
std::vector<bool> user_pieces(const char *file, size_t n)
{
    std::vector<bool> user;

    for (Message m(file, n); m.next();) {
        if (m.field == 1) {
            bool is_user = false;

            for (Message piece(m.data, m.value); piece.next();) {
                is_user = piece.field == 3 ? piece.value == 4 : is_user;
            }
            user.push_back(is_user);
        }
    }
    return user;
}

// The lines of a corpus as the trainer wants to see them.
class Lines : public sentencepiece::SentenceIterator
{
  public:
    Lines(const char *const *line, const size_t *length, size_t n)
        : line_(line), length_(length), n_(n)
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
            now_.assign(line_[at_], length_[at_]);
        }
    }
    const char *const *line_;
    const size_t *length_;
    size_t n_, at_ = 0;
    std::string now_;
};

} // namespace

int esp_sp_open(esp_sp **sp, const char *file, size_t n, char *why, size_t n_why)
{
    *sp = nullptr;
    return guarded(
        [&] {
            auto made = std::make_unique<esp_sp>();
            auto st = made->processor.LoadFromSerializedProto(absl::string_view(file, n));

            if (st.ok()) {
                made->user = user_pieces(file, n);
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
    return sp->processor.IsUnknown(id)            ? ESP_SP_UNKNOWN
           : sp->processor.IsControl(id)          ? ESP_SP_CONTROL
           : sp->user.at(static_cast<size_t>(id)) ? ESP_SP_USER
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

int esp_sp_encode(const esp_sp *sp, const char *text, size_t n, void (*add)(void *to, int32_t id),
                  void *to, char *why, size_t n_why)
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

int esp_sp_train(char **model, size_t *n_model, size_t vocab, const char *const *line,
                 const size_t *length, size_t n, char *why, size_t n_why)
{
    *model = nullptr;
    return guarded(
        [&] {
            const std::unordered_map<std::string, std::string> settings = {
                { "model_type", "bpe" },
                { "vocab_size", std::to_string(vocab) },
                { "character_coverage", "1.0" },
                { "byte_fallback", "true" },
                { "normalization_rule_name", "identity" },
                { "remove_extra_whitespaces", "false" },
                { "allow_whitespace_only_pieces", "true" },
                { "split_digits", "true" },
                { "max_sentence_length", "1000000" },
                { "num_threads", "1" },
                { "minloglevel", "2" },
            };
            Lines lines(line, length, n);
            std::string made;
            auto st = sentencepiece::SentencePieceTrainer::Train(settings, &lines, &made);

            if (st.ok()) {
                *n_model = made.size();
                *model = static_cast<char *>(std::malloc(made.size()));
                if (!*model) {
                    throw std::bad_alloc();
                }
                std::memcpy(*model, made.data(), made.size());
            }
            return st;
        },
        why, n_why);
}
