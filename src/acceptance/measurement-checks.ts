/**
 * Bounds on what was measured with an expert beside those in use. Each check throws PolicyError with its code. Know
 * nothing about how it was measured.
 */
import { type PolicyCode, PolicyError } from '../lib/errors.ts'
import type { AcceptancePolicy } from './policy.ts'

/** Bits per byte on one text, without and with the expert. */
export interface Loss {
  readonly before: number
  readonly after: number
}

export interface Measurement {
  /** On the acceptor's own held-out text, if it has any. */
  readonly own?: Loss
  readonly public: Loss
  /** Share of routing on public text that the expert takes beside the public expert. */
  readonly publicLoadShare: number
  /** The share that a gate solved from its router statistics gives it, if it brings statistics. */
  readonly publicGateShare?: number
}

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

/** Written so that a share that is not a number is refused. */
function checkShare(code: PolicyCode, what: string, found: number, max: number): void {
  if (found <= max) return
  throw new PolicyError(code, `${what} ${percent(found)} of public text, at most ${percent(max)} is allowed`)
}

function checkLoss(code: PolicyCode, text: string, { before, after }: Loss, max: number): void {
  if (after <= before * (1 + max)) return
  throw new PolicyError(
    code,
    `bits per byte on ${text} text: ${before.toFixed(3)} before, ${after.toFixed(3)} after; at most ${percent(max)} worse is allowed`,
  )
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}
