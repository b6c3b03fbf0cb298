/* options.c - the table of all settings. Groups lie together; docs/settings.md is made from it. */
#include <stdint.h>

#include "espalier/clients.h"
#include "config_impl.h"

#define AT(field) offsetof(esp_config, field)

/* Of a choice, which is written as an unsigned: does not compile where the enumeration has another size. */
#define CHOICE_AT(field) \
    (AT(field) + 0 * sizeof(char[sizeof((esp_config *)NULL)->field == sizeof(unsigned) ? 1 : -1]))

#define ANY     DBL_MAX
#define WIDTHS  (1 << 28) /* as config.json has them */
#define SCORE   (1u << ESP_STAGE_SCORE)
#define PLAN    (1u << ESP_STAGE_PLAN)
#define PRUNE   (1u << ESP_STAGE_PRUNE)
#define RECOVER (1u << ESP_STAGE_RECOVER)
#define EVAL    (1u << ESP_STAGE_EVAL)

/* The choices of settings that only the configuration names. */
#define CHOICES(function, ...)                                     \
    static const char *function(unsigned i)                        \
    {                                                              \
        static const char *const names[] = { __VA_ARGS__ };        \
                                                                   \
        return i < sizeof names / sizeof *names ? names[i] : NULL; \
    }

CHOICES(recipe_name, "default", "paper")             /* recipes.c     */
CHOICES(ratio_use_name, "auto", "base", "positions") /* esp_ratio_use */
CHOICES(method_name, "lora", "full")                 /* esp_method    */
CHOICES(io_name, "mpio", "direct")                   /* esp_file_io   */
CHOICES(cut_name, "documents", "windows")
CHOICES(layers_name, "all", "cut")
CHOICES(synth_kind_name, "model", "corpus", "tokenizer")

/* clang-format off */
const esp_option esp_options[] = {
    /* path, type, offset, default, min, max, names of choices, stages it changes, help */
    { "model", ESP_O_PATH, AT(model), "", 0, 0, NULL, 0,
      "model folder: config.json, *.safetensors, tokenizer files" },
    { "run_dir", ESP_O_PATH, AT(run_dir), "", 0, 0, NULL, 0,
      "folder of all results; made when it is not there" },
    { "recipe", ESP_O_CHOICE, CHOICE_AT(recipe), "default", 0, 0, recipe_name, 0,
      "what settings are that are not given; paper: those of LLM-Pruner (arXiv 2305.11627) and its scripts, "
      "value by value at the end of docs/settings.md" },
    { "seed", ESP_O_COUNT, AT(seed), "42", 0, ANY, NULL, SCORE | PLAN | PRUNE | RECOVER,
      "seed of the samples drawn, criterion random, adapters, dropout, order of training, generate and "
      "synth" },
    { "precision", ESP_O_CHOICE, CHOICE_AT(precision), "f32", 0, 0, esp_precision_name,
      SCORE | PLAN | PRUNE | RECOVER | EVAL,
      "of products with weights; bf16 (summed in f32) needs oneDNN and AVX512-BF16 or AMX, else refused" },
    { "rope_ratio", ESP_O_CHOICE, CHOICE_AT(rope_ratio), "auto", 0, 0, ratio_use_name,
      SCORE | PLAN | PRUNE | RECOVER | EVAL,
      "what the rope_ratio of a ChatGLM scales: base (ChatGLM3, GLM-4) or positions (ChatGLM2-6B-32k); "
      "auto: as the folder's modeling_chatglm.py, else base" },

    { "memory_limit", ESP_O_BYTES, AT(memory_limit), "0", 0, ANY, NULL, 0,
      "anonymous memory of a rank: score and recover keep the activations that fit, work is cut to fit, or "
      "refused before it begins; 0: what there is" },

    { "calibration.corpus", ESP_O_PATH, AT(calibration.corpus), "", 0, 0, NULL, SCORE,
      "text to draw samples from: plain text, JSONL, Alpaca JSON, or a token file (.h5)" },
    { "calibration.corpora", ESP_O_FILES, AT(calibration.corpora), "", 0, 0, NULL, SCORE,
      "instead of a corpus: texts to mix, as NAME=FILE or NAME:WEIGHT=FILE; weight: its share of samples" },
    { "calibration.tokens", ESP_O_PATH, AT(calibration.tokens), "", 0, 0, NULL, SCORE,
      "instead of a corpus: file of token ids, one sample per line, all of them used" },
    { "calibration.field", ESP_O_STRING, AT(calibration.field), "", 0, 0, NULL, SCORE,
      "field of JSONL lines that holds the text; empty: text, story or content" },
    { "calibration.samples", ESP_O_COUNT, AT(calibration.samples), "10", 1, INT32_MAX, NULL, SCORE,
      "samples drawn from the corpus" },
    { "calibration.sequence", ESP_O_COUNT, AT(calibration.sequence), "64", 2, INT32_MAX, NULL, SCORE,
      "tokens of each sample drawn" },

    { "importance.criteria", ESP_O_SET, AT(importance.criteria), "", 0, 0, esp_criterion_name, SCORE,
      "criteria estimated in one pass; prune.criterion is always among them" },
    { "importance.aggregations", ESP_O_SET, AT(importance.aggregations), "", 0, 0, esp_aggregation_name,
      SCORE,
      "how scores of structures become scores of groups; prune.aggregation is always among them" },
    { "importance.units", ESP_O_SET, AT(importance.units), "attention,mlp,hidden", 0, 0, esp_unit_name, SCORE,
      "units scored; those that prune.mode and prune.attention need are always among them" },
    { "importance.fisher", ESP_O_EITHER, AT(importance.fisher_sum), "mean", 0, 0, esp_fisher_name, SCORE,
      "whether F is the mean or the sum over the samples of their squared gradients" },
    { "importance.labels", ESP_O_EITHER, AT(importance.model_labels), "data", 0, 0, esp_labels_name, SCORE,
      "tokens whose prediction gradients are of: those of the text, or drawn from what the model predicts" },
    { "importance.from", ESP_O_PATH, AT(importance_from), "", 0, 0, NULL, 0,
      "folder of another run: score takes its importance.h5, which must be of the same settings, model and "
      "samples, instead of computing it again" },

    { "masks.steps", ESP_O_COUNT, AT(masks.steps), "200", 2, INT32_MAX, NULL, SCORE,
      "of the training of gates for criterion masks, on the samples of calibration, over and over" },
    { "masks.batch", ESP_O_COUNT, AT(masks.batch), "4", 1, 1048576, NULL, SCORE,
      "samples of a step, over all ranks" },
    { "masks.learning_rate", ESP_O_NUMBER, AT(masks.learning_rate), "0.05", 1e-6, 1000, NULL, SCORE,
      "of the numbers that gates follow from, for a gradient that is usual in its unit" },

    { "prune.mode", ESP_O_CHOICE, CHOICE_AT(prune.mode), "block", 0, 0, esp_prune_mode_name, PLAN,
      "what is cut: heads and intermediate channels of MLPs; channels of the hidden state; whole layers" },
    { "prune.attention", ESP_O_CHOICE, CHOICE_AT(prune.attention), "groups", 0, 0, esp_attention_units_name,
      PLAN,
      "heads that are cut: key/value heads with their query heads; query heads, as many of each key/value "
      "head; or both" },
    { "prune.select", ESP_O_CHOICE, CHOICE_AT(prune.select), "importance", 0, 0, esp_select_by_name, PLAN,
      "importance: groups that score least go; reconstruction: those that the projection behind them misses "
      "least, on the text of compensate" },
    { "prune.criterion", ESP_O_CHOICE, CHOICE_AT(prune.criterion), "element1", 0, 0, esp_criterion_name,
      PLAN, "score that ranks the groups" },
    { "prune.aggregation", ESP_O_CHOICE, CHOICE_AT(prune.aggregation), "sum", 0, 0, esp_aggregation_name,
      PLAN, "how scores of structures become scores of groups" },
    { "prune.ratio", ESP_O_SHARE, AT(prune.ratio), "0.25", 0, 1, NULL, PLAN,
      "share of the groups of each unit to cut, rounded down; 0 where a target is given" },
    { "prune.attention_ratio", ESP_O_SHARE, AT(prune.attention_ratio), "0", 0, BELOW_1, NULL, PLAN,
      "of heads, where prune.scope = local; 0: prune.ratio" },
    { "prune.target.parameters", ESP_O_NUMBER, AT(prune_targets[ESP_TARGET_PARAMETERS]), "0", 0, ANY, NULL,
      PLAN, "instead of ratio: parameters to keep; a fraction of the dense model up to 1, else a count" },
    { "prune.target.macs", ESP_O_NUMBER, AT(prune_targets[ESP_TARGET_MACS]), "0", 0, ANY, NULL, PLAN,
      "instead of ratio: multiply-accumulates of 64 tokens to keep, fraction or count" },
    { "prune.target.bytes", ESP_O_NUMBER, AT(prune_targets[ESP_TARGET_BYTES]), "0", 0, ANY, NULL, PLAN,
      "instead of ratio: bytes of weights to keep, fraction or count" },
    { "prune.scope", ESP_O_EITHER, AT(prune.global), "local", 0, 0, esp_scope_name, PLAN,
      "rank groups within each layer, or over all layers" },
    { "prune.attention_layers", ESP_O_LAYERS, AT(prune.attention_layers), "", 0, 0, NULL, PLAN,
      "layers whose heads may be cut, inclusive ranges such as [\"4-29\"]; empty: all" },
    { "prune.mlp_layers", ESP_O_LAYERS, AT(prune.mlp_layers), "", 0, 0, NULL, PLAN,
      "layers whose intermediate channels may be cut; empty: all" },
    { "prune.round_to", ESP_O_COUNT, AT(prune.round_to), "1", 1, INT32_MAX, NULL, PLAN,
      "widths that are cut (intermediate channels, channels of heads) become a multiple of this" },
    { "prune.min_keep", ESP_O_COUNT, AT(prune.min_keep), "1", 1, INT32_MAX, NULL, PLAN,
      "least number of groups that stay in every unit" },
    { "prune.steps", ESP_O_COUNT, AT(prune_steps), "1", 1, 1000, NULL, PLAN,
      "number of cuts, with the importance estimated again between them" },
    { "prune.clients", ESP_O_SET, AT(prune_clients), "", 0, 0, esp_client_name, PLAN,
      "programs that are to load the result: a plan whose sizes one of them does not take is refused" },
    { "prune.compensate", ESP_O_CHOICE, CHOICE_AT(prune_compensate), "none", 0, 0, esp_compensation_name,
      PRUNE, "least_squares: projections behind a cut are fitted to what the whole ones gave, on text" },

    { "compensate.corpus", ESP_O_PATH, AT(compensate_corpus), "", 0, 0, NULL, PRUNE,
      "text to fit on, best of several kinds; empty: calibration.corpus or calibration.corpora" },
    { "compensate.corpora", ESP_O_FILES, AT(compensate_corpora), "", 0, 0, NULL, PRUNE,
      "instead of a corpus: texts to mix, as calibration.corpora" },
    { "compensate.field", ESP_O_STRING, AT(compensate_field), "", 0, 0, NULL, PRUNE,
      "field of JSONL lines that holds the text" },
    { "compensate.samples", ESP_O_COUNT, AT(compensate_samples), "128", 1, INT32_MAX, NULL, PRUNE,
      "samples drawn; their tokens should be many times the inputs of a projection" },
    { "compensate.sequence", ESP_O_COUNT, AT(compensate_sequence), "512", 2, INT32_MAX, NULL, PRUNE,
      "tokens of each sample drawn" },
    { "compensate.holdout", ESP_O_COUNT, AT(compensate.holdout), "8", 2, INT32_MAX, NULL, PRUNE,
      "one of so many samples is held out, to choose the damping by" },
    { "compensate.damping", ESP_O_NUMBER, AT(compensate.damping), "0", 0, ANY, NULL, PRUNE,
      "of least squares, relative to the mean square of an input; 0: the best on held-out samples" },
    { "compensate.target", ESP_O_CHOICE, CHOICE_AT(compensate.target), "own", 0, 0, esp_branch_name, PRUNE,
      "what a projection is to give: the branch of the dense model, or of the dense block on its own input" },
    { "compensate.layers", ESP_O_EITHER, AT(compensate.cut_only), "cut", 0, 0, layers_name, PRUNE,
      "all: also projections that lost nothing, as their inputs have changed; or those that were cut" },

    { "recover.method", ESP_O_CHOICE, CHOICE_AT(recover.method), "lora", 0, 0, method_name, RECOVER,
      "train low-rank adapters, or all parameters" },
    { "recover.corpus", ESP_O_PATH, AT(recover_corpus), "", 0, 0, NULL, RECOVER,
      "text to train on: plain text, JSONL, Alpaca JSON, or a token file (.h5)" },
    { "recover.corpora", ESP_O_FILES, AT(recover_corpora), "", 0, 0, NULL, RECOVER,
      "instead of a corpus: texts to mix, as NAME=FILE or NAME:WEIGHT=FILE, until one of them is used up" },
    { "recover.field", ESP_O_STRING, AT(recover_field), "", 0, 0, NULL, RECOVER,
      "field of JSONL lines that holds the text" },
    { "recover.cut", ESP_O_CHOICE, CHOICE_AT(recover_cut), "documents", 0, 0, cut_name, RECOVER,
      "one sample per document, shortened to cutoff; or windows of cutoff tokens over all documents" },
    { "recover.cutoff", ESP_O_COUNT, AT(recover_cutoff), "256", 2, INT32_MAX, NULL, RECOVER,
      "most tokens of a sample" },
    { "recover.answer_only", ESP_O_BOOL, AT(recover_answer_only), "true", 0, 0, NULL, RECOVER,
      "Alpaca JSON: the loss counts the answer's tokens only" },
    { "recover.teacher", ESP_O_PATH, AT(recover_teacher), "", 0, 0, NULL, 0,
      "model folder whose predictions training follows beside the text, such as the dense model; it has the "
      "same tokenizer; empty: none" },
    { "recover.kd_ratio", ESP_O_SHARE, AT(recover.kd_ratio), "0.5", 0, 1, NULL, RECOVER,
      "share w of the teacher in the loss: (1 - w) cross-entropy + w T^2 KL(teacher || model)" },
    { "recover.kd_temperature", ESP_O_NUMBER, AT(recover.kd_temperature), "1", 0.01, 100, NULL, RECOVER,
      "temperature T that divides the logits of both in the KL divergence" },
    { "recover.rank", ESP_O_COUNT, AT(recover.rank), "8", 1, 4096, NULL, RECOVER,
      "rank r of the adapters" },
    { "recover.alpha", ESP_O_NUMBER, AT(recover.alpha), "16", 0, ANY, NULL, RECOVER,
      "adapters are scaled by alpha / r" },
    { "recover.dropout", ESP_O_SHARE, AT(recover.dropout), "0.05", 0, 0.99, NULL, RECOVER,
      "probability of dropping an input of an adapter" },
    { "recover.targets", ESP_O_LIST, AT(recover_targets), "", 0, 0, NULL, RECOVER,
      "projections that get an adapter, such as \"q_proj\"; empty: all of a block" },
    { "recover.learning_rate", ESP_O_NUMBER, AT(recover.learning_rate), "1e-4", 0, ANY, NULL, RECOVER,
      "at the end of the warm-up; falls linearly from there" },
    { "recover.min_learning_rate", ESP_O_NUMBER, AT(recover.min_learning_rate), "0", 0, ANY, NULL,
      RECOVER, "at the last step" },
    { "recover.warmup", ESP_O_NUMBER, AT(recover.warmup), "100", 0, ANY, NULL, RECOVER,
      "steps of linear warm-up; below 1: a fraction of all steps" },
    { "recover.beta1", ESP_O_NUMBER, AT(recover.beta1), "0.9", 0, BELOW_1, NULL, RECOVER, "of AdamW" },
    { "recover.beta2", ESP_O_NUMBER, AT(recover.beta2), "0.999", 0, BELOW_1, NULL, RECOVER,
      "of AdamW" },
    { "recover.epsilon", ESP_O_NUMBER, AT(recover.epsilon), "1e-8", 1e-30, 1, NULL, RECOVER, "of AdamW" },
    { "recover.weight_decay", ESP_O_NUMBER, AT(recover.weight_decay), "0", 0, 1, NULL, RECOVER,
      "of AdamW, decoupled" },
    { "recover.clip", ESP_O_NUMBER, AT(recover.clip), "1", 0, ANY, NULL, RECOVER,
      "largest norm of the gradient; 0: no clipping" },
    { "recover.epochs", ESP_O_NUMBER, AT(recover.epochs), "2", 0, ANY, NULL, RECOVER,
      "passes over the corpus" },
    { "recover.steps", ESP_O_COUNT, AT(recover.steps), "0", 0, INT32_MAX, NULL, RECOVER,
      "optimiser steps instead of epochs; 0: use epochs" },
    { "recover.batch", ESP_O_COUNT, AT(recover.batch), "64", 1, 1048576, NULL, RECOVER,
      "samples of an optimiser step, over all ranks" },
    { "recover.micro_batch", ESP_O_COUNT, AT(recover.micro_batch), "4", 1, 1048576, NULL, 0,
      "samples of one forward and backward on a rank" },
    { "recover.validation", ESP_O_NUMBER, AT(recover.validation), "0.05", 0, ANY, NULL, RECOVER,
      "samples held out for validation; below 1: a fraction; 0: none" },
    { "recover.validate_every", ESP_O_COUNT, AT(recover.validate_every), "100", 0, INT32_MAX, NULL, RECOVER,
      "steps between validations; 0: once per epoch" },
    { "recover.patience", ESP_O_COUNT, AT(recover.patience), "3", 0, INT32_MAX, NULL, RECOVER,
      "stop after so many validations without a better loss; 0: never" },
    { "recover.save_every", ESP_O_COUNT, AT(recover.save_every), "100", 0, INT32_MAX, NULL, 0,
      "steps between checkpoints; 0: at the end only" },
    { "recover.keep", ESP_O_COUNT, AT(recover.keep), "2", 1, INT32_MAX, NULL, 0,
      "newest checkpoints that are kept, beside the one to go back to" },
    { "recover.checkpoint_io", ESP_O_CHOICE, CHOICE_AT(recover.checkpoint_io), "mpio", 0, 0, io_name, 0,
      "mpio: collective transfers of parallel HDF5; direct: plain writes of each rank past the page cache, "
      "faster on one node, and for where MPI-IO is not to be had" },
    { "recover.checkpoint_overlap", ESP_O_BOOL, AT(recover.checkpoint_overlap), "true", 0, 0, NULL, 0,
      "checkpoints are written while the next step computes; mpio: where MPI gives MPI_THREAD_MULTIPLE" },
    { "recover.mpi_io_hints", ESP_O_STRING, AT(recover.mpi_io_hints), "", 0, 0, NULL, 0,
      "hints to MPI-IO for checkpoints, as \"striping_factor=8;cb_nodes=4\": stripes, aggregators; what the "
      "MPI library does not know it ignores" },
    { "recover.max_skipped", ESP_O_COUNT, AT(recover.max_skipped), "3", 1, INT32_MAX, NULL, 0,
      "steps in a row that are skipped, as loss or gradient is not finite, before training goes back to "
      "the last good checkpoint, or the start, with half the learning rate" },
    { "recover.max_rollbacks", ESP_O_COUNT, AT(recover.max_rollbacks), "2", 0, 64, NULL, 0,
      "how often it goes back before it fails" },

    { "eval.corpus", ESP_O_PATH, AT(eval.corpus), "", 0, 0, NULL, EVAL,
      "held-out text: plain text, JSONL, Alpaca JSON, or a token file (.h5)" },
    { "eval.field", ESP_O_STRING, AT(eval.field), "", 0, 0, NULL, EVAL,
      "field of JSONL lines that holds the text" },
    { "eval.window", ESP_O_COUNT, AT(eval.window), "128", 2, INT32_MAX, NULL, EVAL,
      "tokens of a window" },
    { "eval.stride", ESP_O_COUNT, AT(eval.stride), "0", 0, INT32_MAX, NULL, EVAL,
      "distance of the starts of windows; 0: the length of a window, so that none overlap" },
    { "eval.samples", ESP_O_COUNT, AT(eval.samples), "0", 0, INT32_MAX, NULL, EVAL,
      "most windows, the first ones; 0: all" },
    { "eval.corpora", ESP_O_FILES, AT(eval.corpora), "", 0, 0, NULL, EVAL,
      "further texts, each with a perplexity of its own, as NAME=FILE or NAME:WINDOW=FILE" },
    { "eval.tasks", ESP_O_FILES, AT(eval.tasks), "", 0, 0, NULL, EVAL,
      "questions to answer, as KIND=FILE or TASK:KIND=FILE: boolq, piqa, hellaswag, winogrande, arc_easy, "
      "arc_challenge, openbookqa, mmlu (files as published: JSONL, JSON, CSV), question or query (rows of "
      "query, choices, gold; question puts \"Answer:\" behind)" },
    { "eval.limit", ESP_O_COUNT, AT(eval.limit), "0", 0, INT32_MAX, NULL, EVAL,
      "most questions of a task, the first ones; 0: all" },
    { "eval.shots", ESP_O_COUNT, AT(eval.shots), "0", 0, INT32_MAX, NULL, EVAL,
      "examples before each question, the first of the task's file of examples" },
    { "eval.examples", ESP_O_FILES, AT(eval.examples), "", 0, 0, NULL, EVAL,
      "files of examples, as TASK=FILE" },
    { "eval.batch_tokens", ESP_O_COUNT, AT(eval.batch_tokens), "2048", 1, INT32_MAX, NULL, 0,
      "tokens that a rank computes at a time, at least one window" },

    { "generate.prompt", ESP_O_STRING, AT(generate_prompt), "", 0, 0, NULL, 0, "text to continue" },
    { "generate.tokens", ESP_O_COUNT, AT(generate.tokens), "64", 1, INT32_MAX, NULL, 0,
      "most tokens to make" },
    { "generate.temperature", ESP_O_NUMBER, AT(generate.temperature), "0", 0, 100, NULL, 0,
      "0: always the most likely token" },
    { "generate.top_p", ESP_O_SHARE, AT(generate.top_p), "1", 0, 1, NULL, 0,
      "sample among the likeliest tokens that make up this probability" },

    { "tokenize.corpus", ESP_O_PATH, AT(tokenize.corpus), "", 0, 0, NULL, 0,
      "text to turn into a token file" },
    { "tokenize.field", ESP_O_STRING, AT(tokenize.field), "", 0, 0, NULL, 0,
      "field of JSONL lines that holds the text" },
    { "tokenize.output", ESP_O_PATH, AT(tokenize.output), "", 0, 0, NULL, 0,
      "token file to write; empty: tokens.h5 in run_dir" },

    { "synth.output", ESP_O_PATH, AT(synth_output), "", 0, 0, NULL, 0,
      "what to write: a model folder, or the file of a corpus" },
    { "synth.kind", ESP_O_CHOICE, CHOICE_AT(synth_kind), "model", 0, 0, synth_kind_name, 0,
      "random weights, stories of a known entropy, or a tokenizer for synth.corpus" },
    { "synth.stories", ESP_O_COUNT, AT(synth_stories), "2000", 1, INT32_MAX, NULL, 0,
      "documents of a corpus" },
    { "synth.corpus", ESP_O_PATH, AT(synth_corpus), "", 0, 0, NULL, 0,
      "text that a tokenizer is trained on" },
    { "synth.model_type", ESP_O_STRING, AT(synth.model_type), "llama", 0, 0, NULL, 0,
      "family of the model to write: llama, mistral, qwen2, qwen3, phi3, baichuan-7b, baichuan2-7b, "
      "baichuan-13b, baichuan2-13b, opt, bloom, gemma2, chatglm2, chatglm" },
    { "synth.layers", ESP_O_COUNT, AT(synth.layers), "4", 1, 65536, NULL, 0, "blocks" },
    { "synth.hidden", ESP_O_COUNT, AT(synth.hidden), "64", 1, 1048576, NULL, 0, "width D" },
    { "synth.heads", ESP_O_COUNT, AT(synth.heads), "4", 1, 65536, NULL, 0, "query heads" },
    { "synth.kv_heads", ESP_O_COUNT, AT(synth.kv_heads), "0", 0, 65536, NULL, 0,
      "key/value heads; 0: as many as query heads" },
    { "synth.head_dim", ESP_O_COUNT, AT(synth.head_dim), "0", 0, 65536, NULL, 0,
      "channels of a head; 0: hidden / heads" },
    { "synth.mlp", ESP_O_COUNT, AT(synth.mlp), "176", 1, WIDTHS, NULL, 0, "intermediate channels of an MLP" },
    { "synth.vocab", ESP_O_COUNT, AT(synth.vocab), "512", 2, WIDTHS, NULL, 0,
      "tokens of the vocabulary" },
    { "synth.positions", ESP_O_COUNT, AT(synth.max_positions), "512", 2, WIDTHS, NULL, 0,
      "positions of the model" },
    { "synth.tied", ESP_O_BOOL, AT(synth.tied), "false", 0, 0, NULL, 0, "head and embedding are one" },
    { "synth.dtype", ESP_O_CHOICE, CHOICE_AT(synth.dtype), "BF16", 0, 0, esp_dtype_name, 0,
      "type of the weights" },
    { "synth.std", ESP_O_NUMBER, AT(synth.std), "0.02", 0, 1e30, NULL, 0,
      "standard deviation of the weights" },
    { "synth.rope_theta", ESP_O_NUMBER, AT(synth.rope_theta), "10000", 1, ANY, NULL, 0,
      "base of the rotary positions" },

    { "parallel.pipeline", ESP_O_COUNT, AT(parallel.pipeline), "0", 0, 4096, NULL, 0,
      "pipeline stages: ranks that share the layers of a copy of the model; 0: chosen" },
    { "parallel.threads", ESP_O_COUNT, AT(parallel.threads), "0", 0, 4096, NULL, 0,
      "OpenMP threads of a rank; 0: as OMP_NUM_THREADS says" },
    { "parallel.scratch", ESP_O_PATH, AT(parallel.scratch), "", 0, 0, NULL, 0,
      "folder on each node for the activations of score and recover; empty: they stay in memory" },

    { "cluster.nodes", ESP_O_COUNT, AT(cluster.nodes), "1", 1, 200000, NULL, 0,
      "nodes of the cluster that estimate predicts for" },
    { "cluster.cores", ESP_O_COUNT, AT(cluster.cores), "0", 0, 4096, NULL, 0,
      "cores of a node; 0: as many as here" },
    { "cluster.memory", ESP_O_BYTES, AT(cluster.memory), "0", 0, ANY, NULL, 0,
      "memory of a node; 0: as much as here" },
    { "cluster.core_gflops", ESP_O_NUMBER, AT(cluster.core_gflops), "0", 0, ANY, NULL, 0,
      "GFLOP/s of f32 products with weights on a core while all are at work; 0: measured here" },
    { "cluster.memory_bandwidth", ESP_O_NUMBER, AT(cluster.memory_bandwidth), "0", 0, ANY, NULL, 0,
      "GB/s of a node, read and written by copies; 0: measured here" },
    { "cluster.network_bandwidth", ESP_O_NUMBER, AT(cluster.network_bandwidth), "12.5", 0.001, ANY, NULL, 0,
      "GB/s that a node sends and, at the same time, receives" },
    { "cluster.latency", ESP_O_NUMBER, AT(cluster.latency), "2", 0, ANY, NULL, 0,
      "microseconds of a short message between nodes" },
    { "cluster.read_bandwidth", ESP_O_NUMBER, AT(cluster.read_bandwidth), "0", 0, ANY, NULL, 0,
      "GB/s of the file system to all nodes together; 0: what is read lies in memory" },
    { "cluster.write_bandwidth", ESP_O_NUMBER, AT(cluster.write_bandwidth), "1", 0.001, ANY, NULL, 0,
      "GB/s from all nodes together" },

    { "estimate.ranks", ESP_O_COUNT, AT(estimate.ranks), "0", 0, 4096, NULL, 0,
      "ranks of a node; 0: the best number" },
    { "estimate.documents", ESP_O_COUNT, AT(estimate.documents), "50000", 1, INT32_MAX, NULL, 0,
      "samples of recover.corpus, of recover.cutoff tokens each" },
    { "estimate.windows", ESP_O_COUNT, AT(estimate.windows), "2000", 1, INT32_MAX, NULL, 0,
      "windows of each text of eval, and questions of each task, where eval.samples and eval.limit do not "
      "limit them" },
    { "estimate.output", ESP_O_PATH, AT(estimate.output), "", 0, 0, NULL, 0,
      "JSON file for the prediction; empty: none" },
};
/* clang-format on */

const size_t esp_n_options = sizeof esp_options / sizeof *esp_options;
