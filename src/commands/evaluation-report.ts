/** What the command `evaluate` reports. Types and the constants that its readers share; computes nothing. */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import type { RouterKind } from '../model/gates.ts'

/** Domain of the held-out public text that comes with the public model. */
export const PUBLIC_TEXT = 'public text'
/** Column of the mean over the domains. */
export const MACRO = 'macro'

/** Bits per byte of each way of answering; lists are in the order of `experts`. */
export interface Bits {
  readonly public: number
  readonly composed: number
  /** The public model with one expert. */
  readonly alone: readonly number[]
  /** The composition without one expert; absent if that was not asked for. */
  readonly without?: readonly number[]
}

export interface DomainReport {
  readonly name: string
  readonly documents: number
  readonly tokens: number
  readonly bytes: number
  /** Whether the domain has more text than was scored. */
  readonly cut: boolean
  /** A training of this node that was prepared from the same files. */
  readonly trainedAs?: string
  readonly bitsPerByte: Bits
  /** Shares under the composition, all layers together; see `Evaluation`. */
  readonly loadShares: readonly number[]
  /** The same by layer: layers x experts. */
  readonly layerShares: readonly (readonly number[])[]
}

export interface EvaluationReport {
  /** Over all text that was asked for, as one text. */
  readonly public: number
  readonly composed: number
  /** By institution; by institution/expert for an institution that has several experts. */
  readonly alone: Readonly<Record<string, number>>
  readonly without?: Readonly<Record<string, number>>
  readonly loadShares: readonly number[]
  readonly topK: number
  readonly router: RouterKind
  /** Why the router is not solved, for people. */
  readonly routerNote?: string
  readonly experts: readonly Pick<AcceptedExpert, 'id' | 'name' | 'institution'>[]
  readonly domains: readonly DomainReport[]
  /** Mean over the domains, including public text if it was scored. */
  readonly macro: Bits
}

export interface ScoreProgress {
  readonly stage: 'score'
  /** Windows of text scored so far, and in all, counted once for every selection. */
  readonly done: number
  readonly total: number
  readonly secondsLeft: number
}
