/**
 * Calibrates the release of a trained expert: lowers its router logits by one number, the same in every layer, until
 * public text suffers little beside the expert. The number moves tokens without a clear domain to the public expert
 * first, so it costs the owner's own text least. An expert that harms public text little stays as it is, bit for bit.
 * Does not know files.
 *
 * Public text may become at most MAX_PUBLIC_HARM worse with the router that nodes use by default: a gate for an expert
 * with router statistics, router rows for one without. Nodes that choose rows, and exports, route an expert with
 * statistics by its rows, too; with these, public text may become as much worse as receivers allow.
 *
 * The public text is the held-out text on which receivers measure the expert, too. One number is fitted to it, and
 * receivers allow twice the harm with the default router, so other public text of the same kind passes as well.
 */
import type { RouterKind } from '../model/gates.ts'
import type { Expert } from '../model/params.ts'
import { type Gate, type RouterStatistics, solveGate } from '../model/solved-router.ts'
import { foldBias } from '../training/pair.ts'
import type { Calibration, PairScore } from './training-folder.ts'
import { type Setting, Trial, type TrialInit } from './trial.ts'

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

export interface CalibrationInit extends TrialInit {
  /**
   * Rows [C] per layer whose product with every token is about 1, to fold the number into the router rows; without
   * them the expert gets a bias.
   */
  readonly constantRows: readonly Float32Array[] | undefined
  /** Statistics of the public text, for the gate; called only for an expert that has statistics. */
  publicStatistics(): Promise<RouterStatistics>
}

export interface Calibrated {
  /** The expert as it should be released: the same one without `calibration` if it harms public text little. */
  readonly expert: Expert
  readonly calibration?: Calibration
  /** Bits per byte by router rows, of the public model alone and with the released expert. */
  readonly score: PairScore
}

/** A router, and the maximum harm with it. */
interface Limit {
  readonly router: RouterKind
  readonly most: number
}

/** @throws the signal's reason; as `WeightSource.read`. */
export async function calibrate(init: CalibrationInit, expert: Expert): Promise<Calibrated> {
  const { statistics } = expert
  const gate = statistics && solveGate([await init.publicStatistics(), statistics])
  const limits: Limit[] =
    gate === undefined
      ? [{ router: 'rows', most: MAX_PUBLIC_HARM }]
      : [
          { router: 'solved', most: MAX_PUBLIC_HARM },
          { router: 'rows', most: MAX_PUBLIC_HARM_BY_ROWS },
        ]
  const tried = await Trial.run(init, expert, gate, (trial) => tryTrained(trial, limits))
  if (tried.least === 0) return { expert, score: tried.score }
  const { uncalibrated, router } = tried
  const released = await release(init, expert, gate, { ...tried, limits })
  const { expert: lowered, bias, calibrated, score } = released
  return { expert: lowered, calibration: { bias, router, uncalibrated, calibrated }, score }
}

/** What is found about the expert as it was trained. */
interface Tried {
  /** The number nearest to 0, a multiple of -STEP, that its logits need; 0 if it harms public text little. */
  readonly least: number
  /** The router with which public text suffers most. */
  readonly router: RouterKind
  /** Scores by `router`, and by router rows. */
  readonly uncalibrated: PairScore
  readonly score: PairScore
}

const ROWS: Setting = { router: 'rows', bias: 0 }

async function tryTrained(trial: Trial, limits: readonly Limit[]): Promise<Tried> {
  const first = await trial.score({
    public: ['public', ...limits.map(({ router }) => ({ router, bias: 0 }))],
    own: ['public', ROWS],
  })
  const [before, ...after] = first.public as [number, ...number[]]
  const score = pairScore(first.own, [before, after.at(-1) as number])
  const harms = limits.map((limit, i) => excess(limit, before, after[i] as number))
  const worst = harms.reduce((most, harm, i) => (harm > (harms[most] as number) ? i : most), 0)
  const { router } = limits[worst] as Limit
  // The comparison also treats NaN as harm.
  if (harms.every((harm) => harm <= 1)) return { least: 0, router, uncalibrated: score, score }
  const search = new Search(trial, before)
  let lowered = await search.least([limits[worst] as Limit], 0, harms[worst] as number)
  const others = limits.filter(({ router: other }) => other !== router)
  // The final check with the other router; own text with the worst router is scored in the same pass.
  const check = await trial.score({
    public: others.map((other) => ({ router: other.router, bias: -lowered * STEP })),
    own: router === 'rows' ? [] : [{ router, bias: 0 }],
  })
  const rest = others.map((other, i) => excess(other, before, check.public[i] as number))
  if (!rest.every((harm) => harm <= 1)) lowered = await search.least(limits, lowered, Math.max(...rest))
  const [ownBefore] = first.own
  const own = router === 'rows' || ownBefore === undefined ? first.own : [ownBefore, check.own[0] as number]
  const uncalibrated = pairScore(own, [before, after[worst] as number])
  return { least: -lowered * STEP, router, uncalibrated, score }
}

/** Harm as a multiple of what is allowed. */
function excess({ most }: Limit, before: number, after: number): number {
  return (after / before - 1) / most
}

/** @param own before and after, or nothing without own text */
function pairScore(own: readonly number[], [before, after]: readonly [number, number]): PairScore {
  const [ownBefore, ownAfter] = own
  return {
    ...(ownBefore === undefined || ownAfter === undefined
      ? {}
      : { own: { before: ownBefore, after: ownAfter } }),
    public: { before, after },
  }
}

/** Looks for the least lowering with which the pair harms public text little, in as few passes as possible. */
class Search {
  readonly #trial: Trial
  /** Bits per byte of the public model alone on public text. */
  readonly #before: number

  constructor(trial: Trial, before: number) {
    this.#trial = trial
    this.#before = before
  }

  /**
   * The least number of steps, at most MAX_LOWERING / STEP, with which the pair harms public text little with all given
   * routers. The result is that of a bisection; interpolation only chooses the numbers that are tried. Harm falls
   * about exponentially, since a lowered expert has a weight that falls so: its logarithm is interpolated.
   * @param tooLittle number of steps that is known to be too small, with the excess that it leaves
   */
  async least(limits: readonly Limit[], tooLittle: number, excessLeft: number): Promise<number> {
    let low = { steps: tooLittle, log: Math.log(excessLeft) }
    /** `log` is unknown for the largest lowering, which is never tried. */
    let high: { steps: number; log: number | undefined } = { steps: MAX_LOWERING / STEP, log: undefined }
    for (let round = 0; high.steps - low.steps > 1; round++) {
      const guess = this.#guess(low, high, round)
      // A good guess is the least number; the one below it is tried in the same pass to prove that.
      const tried = round > 0 && guess - 1 > low.steps ? [guess - 1, guess] : [guess]
      for (const { steps, log } of await this.#excesses(limits, tried)) {
        if (steps <= low.steps || steps >= high.steps) continue
        if (log <= 0) high = { steps, log }
        else low = { steps, log }
      }
    }
    return high.steps
  }

  /** The number of steps to try, above `low` and below `high`. */
  #guess(
    low: { steps: number; log: number },
    high: { steps: number; log: number | undefined },
    round: number,
  ): number {
    const middle = Math.floor((low.steps + high.steps) / 2)
    const slope = high.log === undefined ? -STEP : (high.log - low.log) / (high.steps - low.steps)
    const guess = low.steps + Math.ceil(-low.log / slope)
    // After some rounds the curve is not as expected: halving ends the search in a bounded number of rounds.
    if (round >= MAX_INTERPOLATIONS || !Number.isFinite(guess)) return middle
    return Math.min(high.steps - 1, Math.max(low.steps + 1, guess))
  }

  /** Logarithm of the largest excess for each number of steps, in ascending order. */
  async #excesses(
    limits: readonly Limit[],
    tried: readonly number[],
  ): Promise<{ steps: number; log: number }[]> {
    const settings = tried.flatMap((steps) => limits.map(({ router }) => ({ router, bias: -steps * STEP })))
    const { public: after } = await this.#trial.score({ public: settings })
    return tried.map((steps, i) => {
      const harms = limits.map((limit, j) =>
        excess(limit, this.#before, after[i * limits.length + j] as number),
      )
      const most = Math.max(...harms)
      // NaN counts as harm. No harm at all has no logarithm: it is treated as very little.
      return { steps, log: Number.isNaN(most) ? 1 : Math.log(Math.max(most, LEAST_EXCESS)) }
    })
  }
}

/** Rounds of a search that interpolate; later ones halve the interval. */
const MAX_INTERPOLATIONS = 4
/** Harm below this multiple of what is allowed counts as this much. */
const LEAST_EXCESS = 1e-3

/** An expert that harms public text little, with its scores. */
interface Released {
  readonly expert: Expert
  readonly bias: number
  /** Scores by the router with which public text suffered most, and by router rows. */
  readonly calibrated: PairScore
  readonly score: PairScore
}

/**
 * Lowers the expert itself, and scores it. The number is folded into the router rows like the trained bias, because
 * FlexOlmo checkpoints cannot hold a bias. Where the product of constant rows with tokens is too far from 1 for that,
 * the expert gets a bias, which is exact.
 */
async function release(
  init: CalibrationInit,
  expert: Expert,
  gate: Gate | undefined,
  { least, limits, router, score: { own, public: shared } }: Tried & { readonly limits: readonly Limit[] },
): Promise<Released> {
  const biased = (bias: number): Expert => {
    const current = expert.bias ?? new Float32Array(expert.routerRows.length)
    return { ...expert, bias: current.map((b) => Math.min(b, 0) + bias) }
  }
  const tryLowered = async (lowered: Expert): Promise<Omit<Released, 'bias'> & { isHarmless: boolean }> => {
    const settings = limits.map((limit) => ({ router: limit.router, bias: 0 }))
    const after = await Trial.run(init, lowered, gate, (trial) =>
      trial.score({ public: settings, own: settings }),
    )
    const scoreBy = (wanted: RouterKind): PairScore => {
      const i = limits.findIndex((limit) => limit.router === wanted)
      const ownScores = own === undefined ? [] : [own.before, after.own[i] as number]
      return pairScore(ownScores, [shared.before, after.public[i] as number])
    }
    const harms = limits.map((limit, i) => excess(limit, shared.before, after.public[i] as number))
    return {
      expert: lowered,
      isHarmless: harms.every((harm) => harm <= 1),
      calibrated: scoreBy(router),
      score: scoreBy('rows'),
    }
  }
  for (const factor of FOLDED) {
    if (init.constantRows === undefined) break
    const { isHarmless, ...released } = await tryLowered(foldBias(biased(factor * least), init.constantRows))
    if (isHarmless) return { ...released, bias: factor * least }
  }
  const { isHarmless: _, ...released } = await tryLowered(biased(least))
  return { ...released, bias: least }
}
