/** Sizes of the two runs of `bench -- paper`. Everything that a cell's result depends on is here. */
import type { ModelConfig } from '../../src/model/config.ts'
import { SMALL_CONFIG } from '../public-model/small-config.ts'

export interface Settings {
  readonly config: ModelConfig
  readonly publicTraining: Training
  /** Of one expert in a pair: the tokens that an owner spends. */
  readonly expertTraining: Training
  /** Of everything whose trunk moves, at the rate that suits it; as many tokens. */
  readonly denseTraining: Training
  /** Tokens kept of a domain's training text, and of the public one. */
  readonly domainTokens: number
  readonly publicTokens: number
  /** Held-out text that is scored, bytes a domain; as much again tunes what needs tuning. */
  readonly evaluationBytes: number
  /** Of documents that change domain. */
  readonly mixedTokens: number
  /** Of the headline rows; the first one serves the ablations. */
  readonly seeds: readonly number[]
  /** Shares of public text in pair training, beside the default's. */
  readonly replayShares: readonly number[]
  readonly ranks: readonly number[]
  /** Continuations of each text of the extraction audit. */
  readonly auditSamples: number
  /** Ids of the rows that there are. */
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

/** Experts go on from where the public model stopped, so it stops at half of its peak (models/small/README.md). */
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
  // Without rows that train all pairs anew for a digit, or that say what another row says.
  rows: /^(?!(joint-half|continued|own-ffn|rate|long|no-bias|random|hidden|embedder|plain-embedder|gate-(decay|512|streams-two|ridge|quarter|odds)|rows-)|.*-rows$)/,
}

/** Tokens of a window that is scored by itself; mixed documents change domain within theirs. */
export const PURE_WINDOW = 256
export const MIXED_WINDOW = 512
/** Tokens of a stretch of one domain in a mixed document. */
export const STRETCH = { least: 64, most: 256 }
