/**
 * Plans where serving holds the weights of a mixture: which matrices are used together, in which format each is held,
 * and how they are packed into blocks of shared memory, each of which must have 32-bit addresses. Reads no weight and
 * allocates nothing.
 */
import { type MatrixFormat, matrixBytes, widthMultiple } from '../kernels/matrix-format.ts'
import {
  expertName,
  FACTORS,
  FFN_PROJECTIONS,
  factorName,
  layerName,
  PUBLIC_EXPERT,
} from '../lib/tensor-names.ts'
import { headSize, keyValueWidth, type ModelConfig } from '../model/config.ts'
import { factorShape, projectionShape } from '../model/params.ts'
import type { WeightFormat } from './weight-format.ts'

/** What is held of a mixture. */
export interface MixtureShape {
  readonly config: ModelConfig
  /** Rank of every expert, the public one first; 0 for full rank. */
  readonly ranks: readonly number[]
}

/** A matrix to hold: consecutive rows of a parameter. */
export interface PlannedMatrix {
  /** Name of the parameter. */
  readonly parameter: string
  /** First row of the parameter. */
  readonly from: number
  /** Rows and columns as held; factors are padded with zeros to a rank that the kernels support. */
  readonly rows: number
  readonly width: number
  readonly format: MatrixFormat
}

/** Matrices that are used together and lie in one block. */
export interface PlannedPart {
  readonly kind: 'attention' | 'ffn' | 'factors' | 'head' | 'embedding'
  /** Layer, or index among the parts of the head or the embedding. */
  readonly index: number
  readonly matrices: readonly PlannedMatrix[]
}

export interface PlannedBlock {
  /** The expert whose weights these are; the public expert also owns the trunk. */
  readonly expert: number
  readonly parts: readonly PlannedPart[]
}

export const ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj'] as const

/**
 * Maximum bytes of one part of the head and of one list of products, so that the event loop gets a turn every few
 * hundredths of a second.
 */
export const LIST_BYTES = 2 ** 28
/** Rows of a coded matrix are held in groups of this many. */
const ROW_GROUP = 16
const ALIGNMENT_BYTES = 64

/** Format of the matrices of low-rank experts, which are only a few percent of the bytes. */
function factorFormat(format: WeightFormat): MatrixFormat {
  return format === 'fp32' ? 'fp32' : 'bf16'
}

/** Format of the head and the embedding: with 4 bits, they would cost more precision than they save memory. */
export function vocabularyFormat(format: WeightFormat): MatrixFormat {
  return format === 'int4' ? 'int8' : format
}

/** Rank at which the kernels can hold factors: the rank itself, or the next larger one that they support. */
export function heldRank(rank: number, format: WeightFormat): number {
  const multiple = widthMultiple(factorFormat(format))
  return Math.ceil(rank / multiple) * multiple
}

/** Whether the kernels can hold the matrices of a model in a format. */
export function isHeldFormat(config: ModelConfig, format: WeightFormat): boolean {
  const multiple = widthMultiple(format)
  const { hiddenSize, intermediateSize } = config
  return headSize(config) % 4 === 0 && hiddenSize % multiple === 0 && intermediateSize % multiple === 0
}

/** The parts of a mixture by the expert that owns them. */
function plannedParts({ config, ranks }: MixtureShape, format: WeightFormat): PlannedPart[][] {
  const layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => layer)
  return ranks.map((rank, e) => {
    const own = layers.map((layer) =>
      rank === 0 ? ffnPart(config, layer, e, format) : factorsPart(config, layer, e, rank, format),
    )
    if (e !== PUBLIC_EXPERT) return own
    const attention = layers.map((layer) => attentionPart(config, layer, format))
    const held = vocabularyFormat(format)
    const head = vocabularyParts('head', config, held)
    const embedding = vocabularyParts('embedding', config, held)
    return [...attention, ...head, ...embedding, ...own]
  })
}

function whole(parameter: string, rows: number, width: number, format: MatrixFormat): PlannedMatrix {
  return { parameter, from: 0, rows, width, format }
}

function attentionPart(config: ModelConfig, layer: number, format: WeightFormat): PlannedPart {
  const { hiddenSize: C } = config
  const K = keyValueWidth(config)
  const matrices = ATTENTION.map((name) => {
    const rows = name === 'k_proj' || name === 'v_proj' ? K : C
    return whole(layerName(layer, `self_attn.${name}.weight`), rows, C, format)
  })
  return { kind: 'attention', index: layer, matrices }
}

function ffnPart(config: ModelConfig, layer: number, e: number, format: WeightFormat): PlannedPart {
  const matrices = FFN_PROJECTIONS.map((name) =>
    whole(expertName(layer, e, name), ...projectionShape(config, name), format),
  )
  return { kind: 'ffn', index: layer, matrices }
}

function factorsPart(
  config: ModelConfig,
  layer: number,
  e: number,
  rank: number,
  format: WeightFormat,
): PlannedPart {
  const held = heldRank(rank, format)
  const matrices = FFN_PROJECTIONS.flatMap((projection) =>
    FACTORS.map((factor) =>
      whole(
        factorName(layer, e, projection, factor),
        ...factorShape(config, projection, factor, held),
        factorFormat(format),
      ),
    ),
  )
  return { kind: 'factors', index: layer, matrices }
}

/** A matrix with one row for each token of the vocabulary, in parts of rows. */
function vocabularyParts(
  kind: 'head' | 'embedding',
  { hiddenSize: C, vocabSize: V }: ModelConfig,
  format: MatrixFormat,
): PlannedPart[] {
  const parameter = kind === 'head' ? 'lm_head.weight' : 'model.embed_tokens.weight'
  const rowsAtOnce = vocabularyRowsAtOnce(C, format)
  return Array.from({ length: Math.ceil(V / rowsAtOnce) }, (_, index) => {
    const from = index * rowsAtOnce
    return {
      kind,
      index,
      matrices: [{ parameter, from, rows: Math.min(rowsAtOnce, V - from), width: C, format }],
    }
  })
}

/** Rows of each part of the head and of the embedding, except the last part. */
export function vocabularyRowsAtOnce(width: number, format: MatrixFormat): number {
  const groupBytes = matrixBytes(format, ROW_GROUP, width)
  return ROW_GROUP * Math.max(1, Math.floor(LIST_BYTES / groupBytes))
}

/** Bytes of a matrix, with the space that aligns the next one. */
function heldBytes({ format, rows, width }: PlannedMatrix): number {
  return Math.ceil(matrixBytes(format, rows, width) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
}

function partBytes({ matrices }: PlannedPart): number {
  return matrices.reduce((total, matrix) => total + heldBytes(matrix), 0)
}

/** Bytes of all matrices of a mixture in a format. */
export function heldWeightBytes(shape: MixtureShape, format: WeightFormat): number {
  return plannedParts(shape, format)
    .flat()
    .reduce((total, part) => total + partBytes(part), 0)
}

/**
 * Packs the parts of every expert, in order, into as few blocks of at most `maxBytes` as that order allows.
 * @param withEmbedding whether the embedding is held, too
 * @throws RangeError for a part that is larger than a block.
 */
export function planBlocks(
  shape: MixtureShape,
  format: WeightFormat,
  maxBytes: number,
  withEmbedding: boolean,
): PlannedBlock[] {
  return plannedParts(shape, format).flatMap((parts, expert) => {
    const blocks: PlannedPart[][] = []
    let free = 0
    for (const part of parts) {
      if (part.kind === 'embedding' && !withEmbedding) continue
      const bytes = partBytes(part)
      if (bytes > maxBytes) {
        throw new RangeError(`expected parts of at most ${maxBytes} bytes, got ${bytes} (${part.kind})`)
      }
      if (bytes > free) {
        blocks.push([])
        free = maxBytes
      }
      blocks.at(-1)?.push(part)
      free -= bytes
    }
    return blocks.map((held) => ({ expert, parts: held }))
  })
}
