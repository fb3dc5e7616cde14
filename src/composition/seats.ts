/**
 * Chooses the experts that have a seat if more are accepted than one composition can hold: each publisher gets one in
 * turn. Depends only on the set of accepted experts, so all nodes that accept the same ones choose the same. Knows
 * nothing about weights.
 */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import { limit } from '../lib/limits.ts'

/** Number of experts of one composition; the public model has the other seat of a mixture. */
const SEATS = limit('members') - 1

/** @returns at most as many experts as have seats, in no particular order. */
export function seated(accepted: readonly AcceptedExpert[]): readonly AcceptedExpert[] {
  if (accepted.length <= SEATS) return accepted
  /** Number of experts of each publisher that have had their turn. */
  const turns = new Map<string, number>()
  const inTurn = sortedBy(accepted, ({ id }) => id).map((expert) => {
    const turn = turns.get(expert.peerId) ?? 0
    turns.set(expert.peerId, turn + 1)
    return { expert, turn }
  })
  return sortedBy(inTurn, ({ turn, expert }) => `${String(turn).padStart(8, '0')} ${expert.peerId}`)
    .slice(0, SEATS)
    .map(({ expert }) => expert)
}

function sortedBy<T>(items: readonly T[], key: (item: T) => string): T[] {
  return [...items].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0))
}
