/**
 * Calibrates the release of a trained expert: lowers its router logits by one number, the same in every layer, until
 * public text suffers little beside the expert. The number moves tokens without a clear domain to the public expert
 * first, so it costs the owner's own text least. An expert that harms public text little stays as it is, bit for bit.
 * Knows no files.
 *
 * Public text may become at most MAX_PUBLIC_HARM worse with the router that nodes use by default: a gate for an expert
 * with router statistics, router rows for one without. Nodes that choose rows, and exports, route an expert with
 * statistics by its rows, too; with these, public text may become as much worse as receivers allow.
 *
 * The public text is the held-out text on which receivers measure the expert, too. One number is fitted to it, and
 * receivers allow twice the harm with the default router, so other public text of the same kind passes as well.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import { createEvaluator, type Evaluator, type HeldOutDocument } from '../model/evaluate.ts'
import type { RouterKind } from '../model/gates.ts'
import { type Expert, mixtureWeights, zeroRows } from '../model/params.ts'
import type { SequenceRouting } from '../model/routing-plan.ts'
import { LEFT_OUT } from '../model/routing-plan.ts'
import { type Gate, type RouterStatistics, solveGate } from '../model/solved-router.ts'
import type { Engine } from '../tensor/engine.ts'
import { foldBias } from '../training/pair.ts'
import type { Calibration, PairScore, Score } from './training-folder.ts'

/** Maximum relative increase of bits per byte on public text: half of what receivers allow by default. */
export const MAX_PUBLIC_HARM = 0.005
/** The same by the rows of an expert with statistics: a little less than the 1 % that receivers allow. */
export const MAX_PUBLIC_HARM_BY_ROWS = 0.0098
/** With its logit lowered so far, an expert has less than a millionth of the weight of an equal one. */
const MAX_LOWERING = 16
/** Precision of the number. */
const STEP = 1 / 8
/**
 * Multiples of the number to try in the router rows: the product of a constant row with tokens is only about 1, and on
 * public text that is like the owner's it can be half of that.
 */
const FOLDED = [1, 1.25, 1.5, 1.75, 2, 2.5] as const

export interface CalibrationInit {
  readonly engine: Engine
  readonly model: Pick<PublicModel, 'config' | 'weights' | 'tokenizer'>
  /**
   * Rows [C] per layer whose product with every token is about 1, to fold the number into the router rows; without
   * them the expert gets a bias.
   */
  readonly constantRows: readonly Float32Array[] | undefined
  /** Statistics of the public text, for the gate; called only for an expert that has statistics. */
  publicStatistics(): Promise<RouterStatistics>
  /** Held-out text: at least one public document; own text only to report what calibration costs. */
  readonly texts: { readonly own?: readonly HeldOutDocument[]; readonly public: readonly HeldOutDocument[] }
  readonly signal: AbortSignal
}

/**
 * The expert as it should be released.
 * @returns the same expert without `calibration` if it harms public text little.
 * @throws the signal's reason.
 */
export async function calibrate(
  init: CalibrationInit,
  expert: Expert,
): Promise<{ expert: Expert; calibration?: Calibration }> {
  const { statistics } = expert
  const gate = statistics && solveGate([await init.publicStatistics(), statistics])
  const found = await Trial.run(init, expert, gate, async (trial) => {
    const scores = await trial.publicScores(0)
    if (scores.every(isHarmless)) return undefined
    const router = worst(scores)
    return { router, uncalibrated: await trial.score(router), least: -(await leastLowering(trial)) }
  })
  if (found === undefined) return { expert }
  const { least, router, uncalibrated } = found
  const { expert: released, bias, calibrated } = await release(init, expert, gate, least, router)
  return { expert: released, calibration: { bias, router, uncalibrated, calibrated } }
}

interface RouterScore {
  readonly router: RouterKind
  readonly score: Score
  /** Maximum harm with this router. */
  readonly limit: number
}

/** Harm as a multiple of what is allowed with this router. */
function excess({ score: { before, after }, limit }: RouterScore): number {
  return (after / before - 1) / limit
}

/** The comparison also rejects NaN. */
function isHarmless(score: RouterScore): boolean {
  return excess(score) <= 1
}

function worst(scores: readonly RouterScore[]): RouterKind {
  const [first, ...others] = scores as [RouterScore, ...RouterScore[]]
  return others.reduce((a, b) => (excess(b) > excess(a) ? b : a), first).router
}

/** The least multiple of STEP, found by bisection, with which the pair harms public text little with any router. */
async function leastLowering(trained: Trial): Promise<number> {
  let tooLittle = 0
  let enough = MAX_LOWERING / STEP
  while (enough - tooLittle > 1) {
    const middle = Math.floor((tooLittle + enough) / 2)
    if ((await trained.publicScores(-middle * STEP)).every(isHarmless)) enough = middle
    else tooLittle = middle
  }
  return enough * STEP
}

/**
 * Lower the expert itself, and score it. The number is folded into the router rows like the trained bias, because
 * FlexOlmo checkpoints cannot hold a bias. Where the product of constant rows with tokens is too far from 1 for that,
 * the expert gets a bias, which is exact.
 */
async function release(
  init: CalibrationInit,
  expert: Expert,
  gate: Gate | undefined,
  least: number,
  router: RouterKind,
): Promise<{ expert: Expert; bias: number; calibrated: PairScore }> {
  const biased = (bias: number): Expert => {
    const current = expert.bias ?? new Float32Array(expert.routerRows.length)
    return { ...expert, bias: current.map((b) => Math.min(b, 0) + bias) }
  }
  const { constantRows } = init
  for (const factor of FOLDED) {
    if (constantRows === undefined) break
    const folded = foldBias(biased(factor * least), constantRows)
    const calibrated = await Trial.run(init, folded, gate, async (trial) =>
      (await trial.publicScores(0)).every(isHarmless) ? trial.score(router) : undefined,
    )
    if (calibrated !== undefined) return { expert: folded, bias: factor * least, calibrated }
  }
  const expertWithBias = biased(least)
  const calibrated = await Trial.run(init, expertWithBias, gate, (trial) => trial.score(router))
  return { expert: expertWithBias, bias: least, calibrated }
}

/** A compiled pair of the public model and one expert. */
class Trial {
  readonly #init: CalibrationInit
  readonly #evaluator: Evaluator
  readonly #gate: Gate | undefined
  /** Bits per byte of the public model alone, by text. */
  readonly #before = new Map<readonly HeldOutDocument[], number>()

  private constructor(init: CalibrationInit, evaluator: Evaluator, gate: Gate | undefined) {
    this.#init = init
    this.#evaluator = evaluator
    this.#gate = gate
  }

  /** Compile the pair for `body`, and free it afterwards. */
  static async run<R>(
    init: CalibrationInit,
    expert: Expert,
    gate: Gate | undefined,
    body: (trial: Trial) => Promise<R>,
  ): Promise<R> {
    const { engine, model } = init
    const weights = mixtureWeights(model.config, model.weights, zeroRows(model.config), [expert])
    const evaluator = createEvaluator(engine, model.config, weights, {
      E: 2,
      topK: 2,
      endOfText: model.tokenizer.endOfText,
    })
    try {
      return await body(new Trial(init, evaluator, gate))
    } finally {
      await evaluator.dispose()
    }
  }

  /** Scores on public text with each router. @param bias added to the router logits of the expert */
  async publicScores(bias: number): Promise<RouterScore[]> {
    const scores: RouterScore[] = []
    const routers: [RouterKind, number][] =
      this.#gate === undefined
        ? [['rows', MAX_PUBLIC_HARM]]
        : [
            ['solved', MAX_PUBLIC_HARM],
            ['rows', MAX_PUBLIC_HARM_BY_ROWS],
          ]
    for (const [router, limit] of routers) {
      scores.push({ router, limit, score: await this.#scoreOn(this.#init.texts.public, router, bias) })
    }
    return scores
  }

  /** Scores on all texts with one router. */
  async score(router: RouterKind): Promise<PairScore> {
    const { own, public: shared } = this.#init.texts
    return {
      ...(own === undefined || own.length === 0 ? {} : { own: await this.#scoreOn(own, router, 0) }),
      public: await this.#scoreOn(shared, router, 0),
    }
  }

  async #scoreOn(documents: readonly HeldOutDocument[], router: RouterKind, bias: number): Promise<Score> {
    const { signal } = this.#init
    const gate = router === 'rows' ? undefined : this.#gate
    const bitsPerByte = async (routing: SequenceRouting): Promise<number> =>
      (await this.#evaluator.evaluate(documents, routing, { signal })).bitsPerByte
    const before = this.#before.get(documents) ?? (await bitsPerByte({ mask: Float32Array.of(0, LEFT_OUT) }))
    this.#before.set(documents, before)
    // The router mask is added to the logits, so a bias can be tried without another compilation.
    return { before, after: await bitsPerByte({ mask: Float32Array.of(0, bias), gate }) }
  }
}
