/**
 * When the key of this node ends, and warnings before: once when at most 42 days are left, once when at most 14 and once
 * when at most 2. Warns again after a restart. Knows nothing about where warnings go.
 */
import type { Membership } from '../consortium/membership.ts'

const DAY_SECONDS = 86_400
/** Days before the end of the node key, ascending. Whoever holds the institution key may be away for weeks. */
const WARNING_DAYS = [2, 14, 42]

type Seat = Pick<Membership, 'seat' | 'keys'>

export interface NodeKeyEnd {
  /** Unix seconds. */
  readonly expiresAt: number
  /** Whole days; negative once the key has ended. */
  readonly daysLeft: number
  /** Whether the end is so near that the operator is told. */
  readonly isNear: boolean
}

/** Undefined if the seat has no node key. @param now Unix seconds */
export function nodeKeyEnd({ seat, keys }: Seat, now: number): NodeKeyEnd | undefined {
  const { node } = keys.historyOf(seat).current()
  if (node === undefined) return undefined
  const daysLeft = Math.floor((node.expiresAt - now) / DAY_SECONDS)
  return { expiresAt: node.expiresAt, daysLeft, isNear: stageOf(daysLeft) !== undefined }
}

export class NodeKeyWarnings {
  /** Entries are `expiresAt days`. */
  readonly #reported = new Set<string>()

  /** The end of the node key, unless it was reported at this stage already. */
  due(membership: Seat, now: number): NodeKeyEnd | undefined {
    const end = nodeKeyEnd(membership, now)
    if (end?.isNear !== true) return undefined
    const entry = `${end.expiresAt} ${stageOf(end.daysLeft)}`
    if (this.#reported.has(entry)) return undefined
    this.#reported.add(entry)
    return end
  }
}

function stageOf(daysLeft: number): number | undefined {
  return WARNING_DAYS.find((days) => daysLeft <= days)
}
