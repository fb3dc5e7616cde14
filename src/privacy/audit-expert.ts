/**
 * Attacks an expert as anybody could who has its package and the public model: finds out about canaries, extracts text
 * and recognises members, all from the scores of one pass. Does not know files or what an owner publishes.
 */
import type { ModelConfig } from '../model/config.ts'
import { type Expert, mixtureWeights, zeroRows } from '../model/params.ts'
import { LEFT_OUT } from '../model/routing-plan.ts'
import { SCORED_SEQUENCE, scoreTokens, type TokenScores } from '../model/token-scores.ts'
import type { WeightMap } from '../model/weights.ts'
import type { Engine } from '../tensor/engine.ts'
import type { Figures } from './audit-policy.ts'
import { canaryAudit } from './canary-audit.ts'
import { extraction } from './extraction-audit.ts'
import { lossRatios, membership, type PairScores } from './membership-audit.ts'

/** Tokens of a piece of text that is attacked. */
export const PIECE_TOKENS = SCORED_SEQUENCE
/** More pieces make the intervals narrower: 500 give 1 % +- 1 %. */
const MOST_PIECES = 500
/** With fewer pieces, figures say nothing. */
const LEAST_PIECES = 64
/** Multiplications that the pieces of one kind may take; the sample's public model stays far below it. */
const PIECES_WORK = 2e13

/** Maximum number of pieces of one kind of text that an audit of a model of this size attacks. */
export function piecesFor({
  hiddenSize: C,
  intermediateSize: F,
  vocabSize: V,
  numHiddenLayers: L,
}: ModelConfig): number {
  // Once with the public FFN alone, once with two FFNs.
  const work = PIECE_TOKENS * (L * (2 * 4 * C * C + 3 * 3 * C * F) + 2 * V * C)
  return Math.min(MOST_PIECES, Math.max(LEAST_PIECES, Math.floor(PIECES_WORK / work)))
}

/** The expert and the public model that it was trained beside. */
export interface AttackedPair {
  readonly engine: Engine
  readonly config: ModelConfig
  readonly weights: WeightMap
  readonly endOfText: number
  readonly expert: Expert
  /**
   * Number by which a calibration has changed the expert's router logits, 0 or below. The attacker takes it back, since
   * text shows most in the pair that training optimised.
   */
  readonly lowered: number
}

export interface PairOptions {
  readonly signal: AbortSignal
  /** @param share of the work that is done, 0 to 1 */
  readonly onProgress: (share: number) => void
}

/** Scores sequences under the public model, and under the pair, which routes by router rows as in training. */
export async function scorePair(
  { engine, config, weights, endOfText, expert, lowered }: AttackedPair,
  sequences: readonly Int32Array[],
  options: PairOptions,
): Promise<PairScores> {
  const mixture = {
    engine,
    config,
    weights: mixtureWeights(config, weights, zeroRows(config), [expert]),
    E: 2,
    topK: 2,
    endOfText,
  }
  const routings = [{ mask: Float32Array.of(0, LEFT_OUT) }, { mask: Float32Array.of(0, -lowered) }]
  const [alone = [], pair = []] = await scoreTokens(mixture, sequences, routings, options)
  return { public: alone, pair }
}

/** What an owner knows of the text of a training. */
export interface KnownText {
  /** Pieces of at most `PIECE_TOKENS` tokens, in which the expert was trained, and pieces that were held out. */
  readonly train: readonly Int32Array[]
  readonly heldOut: readonly Int32Array[]
  readonly canaries: readonly { readonly tokens: Int32Array; readonly isIncluded: boolean }[]
}

/** @param delta of the training's guarantee; 0 without one */
export async function auditExpert(
  pair: AttackedPair,
  { train, heldOut, canaries }: KnownText,
  delta: number,
  options: PairOptions,
): Promise<Figures> {
  const scores = await scorePair(
    pair,
    [...train, ...heldOut, ...canaries.map(({ tokens }) => tokens)],
    options,
  )
  const of = (from: number, count: number): PairScores => {
    const cut = (all: readonly TokenScores[]): readonly TokenScores[] => all.slice(from, from + count)
    return { public: cut(scores.public), pair: cut(scores.pair) }
  }
  const ofTrain = of(0, train.length)
  const ofHeldOut = of(train.length, heldOut.length)
  const ofCanaries = of(train.length + heldOut.length, canaries.length)
  return {
    canaries:
      canaries.length === 0
        ? undefined
        : canaryAudit(
            lossRatios(ofCanaries),
            canaries.map(({ isIncluded }) => isIncluded),
            delta,
          ),
    extraction: {
      train: extraction(ofTrain.pair),
      trainPublic: extraction(ofTrain.public),
      heldOut: extraction(ofHeldOut.pair),
    },
    membership: membership(ofTrain, ofHeldOut),
  }
}
