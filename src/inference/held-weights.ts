/**
 * The weights of a mixture in blocks of shared memory, held once, in one format, for the vector kernels of
 * token-decoder.ts and the expansion of prompt-products.ts. Every block also has the buffers for the vectors that its
 * products read and write. weight-loader.ts fills the blocks. Does not know tokens.
 */
import { BlockLayout } from '../kernels/block-layout.ts'
import { readRow } from '../kernels/coded-matrix.ts'
import { type Matrix, matrixBytes } from '../kernels/matrix-format.ts'
import type { Block, EncodedJob } from '../kernels/vector-jobs.ts'
import { ProductInputs, ProductResults } from '../kernels/vector-layout.ts'
import { MAX_BLOCK_BYTES, type VectorThreads } from '../kernels/vector-threads.ts'
import { FACTORS, FFN_PROJECTIONS, type FfnProjection } from '../lib/tensor-names.ts'
import { keyValueWidth, type ModelConfig } from '../model/config.ts'
import type { WeightFormat } from './weight-format.ts'
import {
  ATTENTION,
  heldRank,
  type MixtureShape,
  type PlannedBlock,
  type PlannedMatrix,
  type PlannedPart,
  planBlocks,
} from './weight-plan.ts'

/** A planned matrix and its address. */
export interface Placed {
  readonly planned: PlannedMatrix
  readonly block: Block
  readonly matrix: Matrix
}

/** Input and result vectors of the matrices of one kind in one block. */
interface AttentionVectors {
  readonly x: ProductInputs
  readonly q: ProductResults
  readonly k: ProductResults
  readonly v: ProductResults
}
interface FfnVectors {
  readonly x: ProductInputs
  readonly gate: ProductResults
  readonly up: ProductResults
  readonly inner: ProductInputs
  readonly y: ProductResults
}
/** `low` are vectors of the rank, between the factors A and B of a projection. */
interface FactorVectors extends FfnVectors {
  readonly low: Readonly<Record<FfnProjection, LowVectors>>
}
interface LowVectors {
  readonly result: ProductResults
  readonly input: ProductInputs
}

/** The matrices of one layer's attention. */
export interface HeldAttention extends AttentionVectors {
  readonly block: Block
  readonly matrices: Readonly<Record<(typeof ATTENTION)[number], Matrix>>
}
/** The matrices of one layer of an expert of full rank. */
export interface HeldFfn extends FfnVectors {
  readonly block: Block
  readonly matrices: Readonly<Record<FfnProjection, Matrix>>
}
/** The factors of one layer of a low-rank expert. */
export interface HeldFactors extends FactorVectors {
  readonly block: Block
  readonly A: Readonly<Record<FfnProjection, Matrix>>
  readonly B: Readonly<Record<FfnProjection, Matrix>>
}
/** Consecutive rows of the head. */
export interface HeldHead {
  readonly x: ProductInputs
  readonly logits: ProductResults
  /** Computes `logits` from `x`. */
  readonly job: EncodedJob
  /** The first token of these rows. */
  readonly from: number
}

export interface HeldInit {
  readonly shape: MixtureShape
  readonly format: WeightFormat
  /** Maximum number of vectors of one product. */
  readonly capacity: number
  /** Whether the embedding is held, too. */
  readonly withEmbedding: boolean
  /** Maximum bytes of the matrices of one block; default: as many as addresses of 32 bits allow. */
  readonly blockBytes?: number
}

/** Bytes of a block that vectors and the scratch space of the threads may take. */
const VECTOR_ALLOWANCE = 2 ** 28

export class HeldWeights {
  readonly config: ModelConfig
  readonly format: WeightFormat
  /** Maximum number of vectors of one product. */
  readonly capacity: number
  /** Every matrix by owner, in the order in which it is loaded. */
  readonly placed: readonly (readonly Placed[])[]
  readonly head: readonly HeldHead[]
  readonly #attention: readonly HeldAttention[]
  /** By expert, then by layer. */
  readonly #ffn: readonly (readonly HeldFfn[])[]
  readonly #factors: readonly (readonly HeldFactors[])[]
  readonly #embedding: readonly Placed[]

  /** Allocates the blocks, filled with zeros. @throws RangeError if the system cannot provide the memory. */
  constructor(threads: VectorThreads, init: HeldInit) {
    const { shape, format, capacity, withEmbedding, blockBytes = MAX_BLOCK_BYTES - VECTOR_ALLOWANCE } = init
    const { config, ranks } = shape
    this.config = config
    this.format = format
    this.capacity = capacity
    const placed = ranks.map((): Placed[] => [])
    const attention: HeldAttention[] = []
    const ffn = ranks.map((): HeldFfn[] => [])
    const factors = ranks.map((): HeldFactors[] => [])
    const head: HeldHead[] = []
    const embedding: Placed[] = []
    for (const planned of planBlocks(shape, format, blockBytes, withEmbedding)) {
      const { expert } = planned
      const filled = allocate(threads, planned, init)
      for (const { part, matrices, block, vectors, logits } of filled) {
        placed[expert]?.push(...matrices)
        if (part.kind === 'embedding') embedding.push(...matrices)
        else if (logits !== undefined) {
          const [{ matrix, planned: rows }] = matrices as [Placed]
          const x = vectors.headInput()
          const at = { x: x.address, y: logits.address, vectors: 1 }
          const job = threads.encode({ kind: 'product', block, matrix, ...at })
          head.push({ from: rows.from, x, logits, job })
        } else if (part.kind === 'attention') {
          attention.push({ block, matrices: named(ATTENTION, matrices), ...vectors.attention() })
        } else if (part.kind === 'ffn') {
          ffn[expert]?.push({ block, matrices: named(FFN_PROJECTIONS, matrices), ...vectors.ffn() })
        } else {
          const factor = (index: number) =>
            named(
              FFN_PROJECTIONS,
              matrices.filter((_, i) => i % FACTORS.length === index),
            )
          factors[expert]?.push({ block, A: factor(0), B: factor(1), ...vectors.factors() })
        }
      }
    }
    this.placed = placed
    this.head = head
    this.#attention = attention
    this.#ffn = ffn
    this.#factors = factors
    this.#embedding = embedding
  }

  attention(layer: number): HeldAttention {
    return this.#attention[layer] as HeldAttention
  }

  /** A layer of an expert of full rank. */
  ffn(layer: number, e: number): HeldFfn {
    return this.#ffn[e]?.[layer] as HeldFfn
  }

  /** A layer of a low-rank expert; undefined for an expert of full rank. */
  factors(layer: number, e: number): HeldFactors | undefined {
    return this.#factors[e]?.[layer]
  }

  /** Writes the embedding of a token, (C). */
  embed(token: number, into: Float32Array): void {
    const rows = (this.#embedding[0] as Placed).planned.rows
    const { block, matrix } = this.#embedding[Math.floor(token / rows)] as Placed
    readRow(block.buffer, matrix, token % rows, into)
  }
}

function named<N extends string>(names: readonly N[], placed: readonly Placed[]): Record<N, Matrix> {
  return Object.fromEntries(names.map((name, i) => [name, (placed[i] as Placed).matrix])) as Record<N, Matrix>
}

/** A part of an allocated block. */
interface FilledPart {
  readonly part: PlannedPart
  readonly block: Block
  readonly matrices: readonly Placed[]
  readonly vectors: BlockVectors
  /** For a part of the head, whose number of rows differs from that of others. */
  readonly logits: ProductResults | undefined
}

/** Allocates one block: its matrices, and buffers for vectors of the kinds that it needs. */
function allocate(threads: VectorThreads, { expert, parts }: PlannedBlock, init: HeldInit): FilledPart[] {
  const layout = new BlockLayout()
  const addresses = parts.map(({ matrices }) =>
    matrices.map(({ format, rows, width }) => layout.reserveBytes(matrixBytes(format, rows, width))),
  )
  const vectors = new BlockVectors(layout, init, init.shape.ranks[expert] as number)
  const logits = parts.map(({ kind, matrices }) => {
    if (kind === 'head') vectors.headInput()
    else if (kind !== 'embedding') vectors[kind]()
    return kind === 'head' ? vectors.results((matrices[0] as PlannedMatrix).rows) : undefined
  })
  const block = threads.block(layout.bytes)
  vectors.bind(block)
  return parts.map((part, p) => ({
    part,
    block,
    vectors,
    logits: logits[p],
    matrices: part.matrices.map((planned, m) => {
      const { format, rows, width } = planned
      return { planned, block, matrix: { format, at: addresses[p]?.[m] as number, rows, width } }
    }),
  }))
}

/** The vectors of one block, reserved at the first use of each kind. */
class BlockVectors {
  readonly #layout: BlockLayout
  readonly #config: ModelConfig
  readonly #format: WeightFormat
  readonly #capacity: number
  readonly #rank: number
  readonly #all: { bind(block: Block): void }[] = []
  #attention: AttentionVectors | undefined
  #ffn: FfnVectors | undefined
  #factors: FactorVectors | undefined
  #headInput: ProductInputs | undefined

  constructor(layout: BlockLayout, { shape, format, capacity }: HeldInit, rank: number) {
    this.#layout = layout
    this.#config = shape.config
    this.#format = format
    this.#capacity = capacity
    this.#rank = heldRank(rank, format)
  }

  bind(block: Block): void {
    for (const vectors of this.#all) vectors.bind(block)
  }

  attention(): AttentionVectors {
    const { hiddenSize: C } = this.#config
    const K = keyValueWidth(this.#config)
    this.#attention ??= {
      x: this.#inputs(C),
      q: this.results(C),
      k: this.results(K),
      v: this.results(K),
    }
    return this.#attention
  }

  ffn(): FfnVectors {
    this.#ffn ??= this.#ffnVectors(this.#format)
    return this.#ffn
  }

  factors(): FactorVectors {
    const format = this.#format === 'fp32' ? 'fp32' : 'bf16'
    this.#factors ??= {
      ...this.#ffnVectors(format),
      low: Object.fromEntries(
        FFN_PROJECTIONS.map((name) => [
          name,
          { result: this.results(this.#rank), input: this.#inputs(this.#rank, format) },
        ]),
      ) as Record<FfnProjection, LowVectors>,
    }
    return this.#factors
  }

  headInput(): ProductInputs {
    this.#headInput ??= this.#inputs(this.#config.hiddenSize)
    return this.#headInput
  }

  results(rows: number): ProductResults {
    return this.#register(new ProductResults(this.#layout, this.#capacity, rows))
  }

  #ffnVectors(format: WeightFormat): FfnVectors {
    const { hiddenSize: C, intermediateSize: F } = this.#config
    return {
      x: this.#inputs(C, format),
      gate: this.results(F),
      up: this.results(F),
      inner: this.#inputs(F, format),
      y: this.results(C),
    }
  }

  #inputs(width: number, format = this.#format): ProductInputs {
    return this.#register(new ProductInputs(this.#layout, this.#capacity, width, format))
  }

  #register<V extends { bind(block: Block): void }>(vectors: V): V {
    this.#all.push(vectors)
    return vectors
  }
}
