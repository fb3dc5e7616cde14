import { describe, expect, it } from 'vitest'
import { KeyHistory, keyDigest, type NodeKey, parseScopes } from '../../src/consortium/key-history.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { identityOf, NOW } from '../support/consortium.ts'
import { codeOf } from '../support/packages.ts'

const [first, second, third, node, otherNode, thief] = [1, 2, 3, 4, 5, 6].map(identityOf) as [
  Identity,
  Identity,
  Identity,
  Identity,
  Identity,
  Identity,
]
const named = ({ peerId }: Identity): NodeKey => ({ key: peerId, scopes: ['packages'], expiresAt: NOW + 100 })
const next = (of: Identity) => keyDigest(of.peerId)

/** A seat that has committed the second key in statement 1 and rotated to it in statement 5. */
const rotated = new KeyHistory({ key: first.peerId })
  .with({ seq: 1, key: first.peerId, next: next(second), node: named(node) })
  .with({ seq: 5, key: second.peerId, next: next(third), node: named(otherNode), validThroughSeq: 3 })

describe('the history of the keys of a seat', () => {
  it('names the keys before every statement', () => {
    const keys = [1, 2, 5, 6, 99].map((seq) => {
      const state = rotated.before(seq)
      return [state.key, state.node?.key]
    })
    expect(keys).toEqual([
      [first.peerId, undefined],
      [first.peerId, node.peerId],
      [first.peerId, node.peerId],
      [second.peerId, otherNode.peerId],
      [second.peerId, otherNode.peerId],
    ])
  })

  it('lets the statements count that the statement about keys leaves valid, and those after it', () => {
    const counting = [1, 2, 3, 4, 5, 6].filter((seq) => rotated.counts(seq))
    expect(counting).toEqual([1, 2, 3, 5, 6])
  })

  it('lets a thief of the first key neither rotate nor exchange the commitment', () => {
    const one = new KeyHistory({ key: first.peerId, next: next(second) })
    const change = { seq: 1, key: thief.peerId, next: next(third) }
    expect(codeOf(() => one.checkChange(change))).toBe('wrong-signer')
    expect(codeOf(() => one.checkChange({ ...change, key: first.peerId, next: next(thief) }))).toBe(
      'not-committed',
    )
    expect(codeOf(() => one.checkChange({ ...change, key: second.peerId }))).toBe('accept')
  })

  it('lets the members restore a seat: older keys end at once, and the new key states what counts', () => {
    const restored = new KeyHistory({ key: first.peerId }, rotated.changes, { key: third.peerId })
    expect(restored.current()).toEqual({ key: third.peerId })
    expect(restored.mayContradict(second.peerId)).toBe(false)
    const change = { seq: 9, key: third.peerId, next: next(first), validThroughSeq: 6 }
    expect(codeOf(() => restored.checkChange(change))).toBe('accept')
    const stated = restored.with(change)
    expect([6, 7, 8, 9, 10].map((seq) => stated.counts(seq))).toEqual([true, false, false, true, true])
    expect(stated.mayContradict(second.peerId)).toBe(false)
  })

  it.each([
    ['all', 'governance, packages,witness', ['governance', 'packages', 'witness']],
    ['one twice', 'packages,packages', ['packages']],
  ])('reads scopes: %s', (_, text, scopes) => {
    expect(parseScopes(text)).toEqual(scopes)
  })

  it('refuses an unknown scope by its name', () => {
    expect(() => parseScopes('packages,votes')).toThrow('got "votes"')
  })
})
