/** Test vectors of section Chain. */
import { type Case, type Vector, vectorsOf } from '../vector.ts'
import { digest } from './fixtures.ts'

export function chainVectors(): Vector[] {
  const tip = { seq: 5, digest: digest(5) }
  const link = (seq: number, prev: number, id: number) => ({ seq, prev: digest(prev), id: digest(id) })
  const cases: [...Case, Record<string, unknown>][] = [
    ['next', 'accept', 'the next statement', link(6, 5, 6)],
    ['known', 'accept', 'the latest statement again', link(5, 4, 5)],
    ['other-predecessor', 'forked', 'the next number after another predecessor', link(6, 4, 6)],
    ['same-number', 'forked', 'another statement with the same number', link(5, 4, 9)],
    ['older', 'replayed', 'an earlier statement again', link(4, 3, 4)],
  ]
  return vectorsOf('chain', 'expert-package Chain', cases, (statement) => ({
    decoder: 'chain',
    tip,
    statement,
  }))
}
