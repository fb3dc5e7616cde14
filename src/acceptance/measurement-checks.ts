/**
 * Checks of the measurement of an expert beside the experts in use. Each throws a PolicyError whose code becomes the
 * refusal. They know nothing about how it was measured.
 */
import { type PolicyCode, PolicyError } from '../lib/errors.ts'
import type { AcceptancePolicy } from './policy.ts'

/** Bits per byte on one text, without and with the expert. */
export interface Loss {
  readonly before: number
  readonly after: number
}

export interface Measurement {
  /** Loss on the held-out text of this node's own trainings, if it has any. */
  readonly own?: Loss
  /** Loss on held-out public text. */
  readonly public: Loss
  /** Share of routing on public text that the expert takes beside the public expert. */
  readonly publicLoadShare: number
  /** Share of public text that a gate solved from its router statistics gives the expert, if it has statistics. */
  readonly publicGateShare?: number
}

/** What the owner of a refused expert can do; a node that publishes shows it to its own user. */
const NEXT = {
  'load-share':
    'its owner can train it again on text that differs more from the public text, or with fewer --steps',
  'gate-share':
    'its owner can leave out text that is like the public text, or publish it with --router-statistics none',
  'harms-public':
    'its owner can train it again on more text of its own or with fewer --steps, or publish it with a lower --rank',
  'harms-own': 'its owner can train it again with fewer --steps, or publish it with a lower --rank',
} as const
type Refusal = keyof typeof NEXT & PolicyCode

/** @throws PolicyError `load-share`. */
export function checkLoadShare({ publicLoadShare }: Measurement, policy: AcceptancePolicy): void {
  checkShare('load-share', 'takes', publicLoadShare, policy.maxPublicLoadShare)
}

/** @throws PolicyError `gate-share`. */
export function checkGateShare({ publicGateShare }: Measurement, policy: AcceptancePolicy): void {
  if (publicGateShare === undefined) return
  checkShare('gate-share', 'its router statistics take', publicGateShare, policy.maxPublicGateShare)
}

/** @throws PolicyError `harms-public`. */
export function checkPublicText(measured: Measurement, policy: AcceptancePolicy): void {
  checkLoss('harms-public', 'public', measured.public, policy.maxPublicLoss)
}

/** @throws PolicyError `harms-own`. */
export function checkOwnText({ own }: Measurement, policy: AcceptancePolicy): void {
  if (own !== undefined) checkLoss('harms-own', 'own', own, policy.maxOwnLoss)
}

/** The comparison also refuses NaN. */
function checkShare(code: Refusal, what: string, found: number, max: number): void {
  if (found <= max) return
  throw new PolicyError(
    code,
    `${what} ${percent(found)} of public text, at most ${percent(max)} is allowed; ${NEXT[code]}`,
  )
}

/** The comparison also refuses NaN. */
function checkLoss(code: Refusal, text: string, { before, after }: Loss, max: number): void {
  if (after <= before * (1 + max)) return
  throw new PolicyError(
    code,
    `bits per byte on ${text} text: ${before.toFixed(3)} before, ${after.toFixed(3)} after; at most ${percent(max)} worse is allowed; ${NEXT[code]}`,
  )
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}
