/**
 * Writes a GGUF file (version 3) of architecture `olmoe` with random weights, so that llama.cpp serves a mixture of a
 * reference model's shape. llama.cpp does not know FlexOlmo; OLMoE does the same multiplications with the norms in
 * other places. The layout is that of docs/gguf.md in ggml-org/ggml. Rows of Q8_0 and Q4_0 are blocks of 32 values: a
 * float16 scale, then 32 int8 or 32 unsigned numbers of 4 bits from which 8 is subtracted. Tensors are written piece by
 * piece and never held as a whole. Knows nothing about engines.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { f16FromFloat32 } from '../../../src/lib/float-formats.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import type { ModelConfig } from '../../../src/model/config.ts'

export type GgufFormat = 'F32' | 'Q8_0' | 'Q4_0'

const MAGIC = 'GGUF'
const VERSION = 3
const ALIGNMENT = 32
/** ggml_type numbers. */
const TYPE_NUMBERS: Readonly<Record<GgufFormat, number>> = { F32: 0, Q8_0: 8, Q4_0: 2 }
/** LLAMA_FTYPE numbers. */
const FILE_TYPES: Readonly<Record<GgufFormat, number>> = { F32: 0, Q8_0: 7, Q4_0: 2 }
/** gguf_metadata_value_type numbers. */
const VALUE_TYPES = { uint32: 4, int32: 5, float32: 6, text: 8, list: 9 } as const
/** llama_token_type numbers. */
const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, byte: 6 } as const
const BLOCK_VALUES = 32
const SCALE_BYTES = 2
/** Bytes of a block. */
const BLOCK_BYTES = { Q8_0: SCALE_BYTES + BLOCK_VALUES, Q4_0: SCALE_BYTES + BLOCK_VALUES / 2 } as const
/** Largest code of uniform values in [-code, code]. */
const LARGEST_CODE = { Q8_0: 127, Q4_0: 7 } as const
/** Values in a piece that is written at once; a multiple of a block. */
const PIECE_VALUES = 2 ** 20
const SEED = 1

interface GgufTensor {
  readonly name: string
  /** Fastest-varying dimension first, as in ggml. */
  readonly dimensions: readonly number[]
  readonly format: GgufFormat
  readonly isNorm: boolean
}

export async function writeOlmoeGguf(
  path: string,
  config: ModelConfig,
  experts: number,
  topK: number,
  format: GgufFormat,
): Promise<void> {
  const tensors = olmoeTensors(config, experts, format)
  const random = mulberry32(SEED)
  const file = await open(path, 'w')
  try {
    await writeAligned(file, [header(metadata(config, experts, topK, format), tensors)])
    for (const tensor of tensors) await writeAligned(file, tensorPieces(tensor, random))
  } finally {
    await file.close()
  }
}

function olmoeTensors(config: ModelConfig, experts: number, format: GgufFormat): GgufTensor[] {
  const { vocabSize: V, hiddenSize: C, intermediateSize: F } = config
  const norm = (name: string): GgufTensor => ({ name, dimensions: [C], format: 'F32', isNorm: true })
  const weight = (name: string, ...dimensions: number[]): GgufTensor => ({
    name,
    dimensions,
    format,
    isNorm: false,
  })
  const tensors = [
    weight('token_embd.weight', C, V),
    norm('output_norm.weight'),
    weight('output.weight', C, V),
  ]
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const at = (rest: string): string => `blk.${layer}.${rest}.weight`
    tensors.push(
      norm(at('attn_norm')),
      norm(at('attn_q_norm')),
      norm(at('attn_k_norm')),
      norm(at('ffn_norm')),
    )
    for (const name of ['attn_q', 'attn_k', 'attn_v', 'attn_output']) tensors.push(weight(at(name), C, C))
    // llama.cpp keeps the router in float32 whatever the file's format.
    tensors.push({ ...weight(at('ffn_gate_inp'), C, experts), format: 'F32' })
    tensors.push(weight(at('ffn_gate_exps'), C, F, experts), weight(at('ffn_up_exps'), C, F, experts))
    tensors.push(weight(at('ffn_down_exps'), F, C, experts))
  }
  return tensors
}

type Value =
  | { uint32: number }
  | { float32: number }
  | { text: string }
  | { texts: readonly string[] }
  | { float32s: Float32Array }
  | { int32s: Int32Array }

function metadata(
  config: ModelConfig,
  experts: number,
  topK: number,
  format: GgufFormat,
): ReadonlyMap<string, Value> {
  const keys: [string, Value][] = [
    ['general.architecture', { text: 'olmoe' }],
    ['general.name', { text: 'random weights' }],
    ['general.file_type', { uint32: FILE_TYPES[format] }],
    ['olmoe.block_count', { uint32: config.numHiddenLayers }],
    ['olmoe.context_length', { uint32: config.maxPositionEmbeddings }],
    ['olmoe.embedding_length', { uint32: config.hiddenSize }],
    ['olmoe.feed_forward_length', { uint32: config.intermediateSize }],
    ['olmoe.attention.head_count', { uint32: config.numAttentionHeads }],
    ['olmoe.attention.head_count_kv', { uint32: config.numKeyValueHeads }],
    ['olmoe.attention.layer_norm_rms_epsilon', { float32: config.rmsNormEps }],
    ['olmoe.rope.freq_base', { float32: config.ropeTheta }],
    ['olmoe.expert_count', { uint32: experts }],
    ['olmoe.expert_used_count', { uint32: topK }],
    ...vocabulary(config.vocabSize),
  ]
  return new Map(keys)
}

/**
 * The benchmark sends token ids, but node-llama-cpp tokenizes a line break when it loads. The smallest SentencePiece
 * vocabulary that it accepts has three control tokens and the 256 bytes; the other tokens are fillers.
 */
function vocabulary(size: number): [string, Value][] {
  const tokens = ['<unk>', '<s>', '</s>']
  const types = new Int32Array(size).fill(TOKEN_TYPES.normal)
  types.set([TOKEN_TYPES.unknown, TOKEN_TYPES.control, TOKEN_TYPES.control])
  for (let byte = 0; byte < 256; byte++) {
    types[tokens.length] = TOKEN_TYPES.byte
    tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
  }
  while (tokens.length < size) tokens.push(`filler${tokens.length}`)
  return [
    ['tokenizer.ggml.model', { text: 'llama' }],
    ['tokenizer.ggml.tokens', { texts: tokens }],
    ['tokenizer.ggml.scores', { float32s: new Float32Array(size) }],
    ['tokenizer.ggml.token_type', { int32s: types }],
    ['tokenizer.ggml.unknown_token_id', { uint32: 0 }],
    ['tokenizer.ggml.bos_token_id', { uint32: 1 }],
    ['tokenizer.ggml.eos_token_id', { uint32: 2 }],
  ]
}

function header(keys: ReadonlyMap<string, Value>, tensors: readonly GgufTensor[]): Uint8Array {
  const parts: Buffer[] = [Buffer.from(MAGIC), uint32(VERSION), uint64(tensors.length), uint64(keys.size)]
  for (const [key, value] of keys) parts.push(text(key), ...valueParts(value))
  let offset = 0
  for (const tensor of tensors) {
    parts.push(text(tensor.name), uint32(tensor.dimensions.length), ...tensor.dimensions.map(uint64))
    parts.push(uint32(TYPE_NUMBERS[tensor.format]), uint64(offset))
    offset += aligned(byteLength(tensor))
  }
  return Buffer.concat(parts)
}

/** The number of the value's type, followed by the value. */
function valueParts(value: Value): Buffer[] {
  if ('text' in value) return [uint32(VALUE_TYPES.text), text(value.text)]
  if ('uint32' in value) return [uint32(VALUE_TYPES.uint32), uint32(value.uint32)]
  if ('float32' in value) return [uint32(VALUE_TYPES.float32), float32(value.float32)]
  const list = (type: number, length: number): Buffer[] => [
    uint32(VALUE_TYPES.list),
    uint32(type),
    uint64(length),
  ]
  if ('texts' in value) return [...list(VALUE_TYPES.text, value.texts.length), ...value.texts.map(text)]
  if ('float32s' in value) {
    return [...list(VALUE_TYPES.float32, value.float32s.length), Buffer.from(value.float32s.buffer)]
  }
  return [...list(VALUE_TYPES.int32, value.int32s.length), Buffer.from(value.int32s.buffer)]
}

function* tensorPieces(
  { dimensions, format, isNorm }: GgufTensor,
  random: () => number,
): Generator<Uint8Array> {
  const count = dimensions.reduce((product, length) => product * length, 1)
  // Uniform values of standard deviation 1 / sqrt(width).
  const bound = Math.sqrt(3 / (dimensions[0] as number))
  for (let from = 0; from < count; from += PIECE_VALUES) {
    const length = Math.min(PIECE_VALUES, count - from)
    if (format !== 'F32') yield blocks(length / BLOCK_VALUES, format, bound, random)
    else {
      const values = Float32Array.from({ length }, () => (isNorm ? 1 : (2 * random() - 1) * bound))
      yield new Uint8Array(values.buffer)
    }
  }
}

/** Blocks of random codes with one scale. */
function blocks(count: number, format: 'Q8_0' | 'Q4_0', bound: number, random: () => number): Uint8Array {
  const largest = LARGEST_CODE[format]
  const [scale] = f16FromFloat32(Float32Array.of(bound / largest))
  const code = (): number => Math.round((2 * random() - 1) * largest)
  const bytes = Buffer.alloc(count * BLOCK_BYTES[format])
  for (let block = 0; block < bytes.length; block += BLOCK_BYTES[format]) {
    bytes.writeUInt16LE(scale as number, block)
    for (let at = block + SCALE_BYTES; at < block + BLOCK_BYTES[format]; at++) {
      bytes[at] = format === 'Q8_0' ? code() & 255 : (code() + 8) | ((code() + 8) << 4)
    }
  }
  return bytes
}

function byteLength({ dimensions, format }: GgufTensor): number {
  const count = dimensions.reduce((product, length) => product * length, 1)
  return format === 'F32' ? 4 * count : (count / BLOCK_VALUES) * BLOCK_BYTES[format]
}

function aligned(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT
}

async function writeAligned(file: FileHandle, pieces: Iterable<Uint8Array>): Promise<void> {
  let length = 0
  for (const bytes of pieces) {
    await file.writeFile(bytes)
    length += bytes.length
  }
  await file.writeFile(new Uint8Array(aligned(length) - length))
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint64(bytes.length), bytes])
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function float32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}
