/** Settings of the two runs of `bench -- paper`, with everything that a cell's content depends on. */
import type { ModelConfig } from '../../src/model/config.ts'
import { SMALL_CONFIG } from '../public-model/small-config.ts'

export interface Settings {
  readonly config: ModelConfig
  readonly publicTraining: Training
  /** Training of one expert in a pair, which sets the tokens that an owner spends. */
  readonly expertTraining: Training
  /** Training of every model whose trunk is trained: as many tokens, at a suitable learning rate. */
  readonly denseTraining: Training
  /** Maximum number of training tokens of an owner's domain, and of the public domain. */
  readonly domainTokens: number
  readonly publicTokens: number
  /** Held-out text of each domain that is scored, bytes. As much public text is used for tuning. */
  readonly evaluationBytes: number
  /** Number of tokens in documents that change domain. */
  readonly mixedTokens: number
  /** Seeds of the headline rows; ablations use the first. */
  readonly seeds: readonly number[]
  /** Shares of public text in pair training that are tried besides the default. */
  readonly replayShares: readonly number[]
  readonly ranks: readonly number[]
  /** Number of continuations for each text of the extraction audit. */
  readonly auditSamples: number
  /** Matches the ids of the rows that are run. */
  readonly rows: RegExp
}

export interface Training {
  readonly steps: number
  readonly B: number
  readonly T: number
  readonly peak: number
  readonly warmupSteps: number
  readonly finalShare: number
}

/** Experts continue from this learning rate, so training stops at half of its peak (models/small/README.md). */
const PUBLIC: Training = { steps: 800, B: 8, T: 512, peak: 3e-3, warmupSteps: 100, finalShare: 0.5 }
const EXPERT: Training = { steps: 200, B: 8, T: 128, peak: 5e-3, warmupSteps: 10, finalShare: 0.1 }
const DENSE: Training = { ...EXPERT, peak: 2e-3 }

export const FULL: Settings = {
  config: SMALL_CONFIG,
  publicTraining: PUBLIC,
  expertTraining: EXPERT,
  denseTraining: DENSE,
  domainTokens: 1_000_000,
  publicTokens: 6_200_000,
  evaluationBytes: 12_000,
  mixedTokens: 12_288,
  seeds: [1, 2, 3],
  replayShares: [0, 0.5],
  ranks: [8, 32, 96],
  auditSamples: 10,
  rows: /./,
}

export const QUICK: Settings = {
  ...FULL,
  publicTraining: { ...PUBLIC, steps: 160 },
  expertTraining: { ...EXPERT, steps: 50 },
  denseTraining: { ...DENSE, steps: 50 },
  publicTokens: 1_000_000,
  domainTokens: 250_000,
  evaluationBytes: 5_000,
  mixedTokens: 4_096,
  seeds: [1],
  replayShares: [0],
  ranks: [32],
  auditSamples: 4,
  // Leaves out rows that train all pairs again for a small difference, or that resemble another row.
  rows: /^(?!(joint-half|continued|own-ffn|rate|long|no-bias|random|hidden|embedder|plain-embedder|gate-(decay|512|streams-two|ridge|quarter|odds)|rows-)|.*-rows$)/,
}

/** Number of tokens in a window of one domain, and in a window of a mixed document, which changes domain. */
export const PURE_WINDOW = 256
export const MIXED_WINDOW = 512
/** Number of tokens in a stretch of one domain in a mixed document. */
export const STRETCH = { least: 64, most: 256 }
