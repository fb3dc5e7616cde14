import { describe, expect, it } from 'vitest'
import { isMember, mayPublish, openRoster } from '../../src/consortium/roster.ts'
import type { Identity } from '../../src/identity/keys.ts'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'
import { consortium, identityOf, NOW } from '../support/consortium.ts'
import { codeOf } from '../support/packages.ts'
import { addMember, revokeMember } from '../support/signed-rosters.ts'

const [first, second, guest, stranger] = [1, 2, 3, 4].map(identityOf) as [
  Identity,
  Identity,
  Identity,
  Identity,
]
/** Two founders, both of whom must sign. */
const c = consortium([first, second], { threshold: 2 })
const founding = c.roster
const grown = addMember(founding, 'Guest', guest.peerId, NOW)

describe('a roster', () => {
  it('is accepted after its predecessor if enough founders sign it', () => {
    expect(openRoster(c.seal(grown), founding)).toEqual(grown)
    expect(isMember(grown, guest.peerId)).toBe(true)
    expect(isMember(grown, stranger.peerId)).toBe(false)
  })

  it.each([
    ['one founder signs', 'unsigned', [first]],
    ['one founder signs twice', 'bad-envelope', [first, first]],
    ['a member signs in place of a founder', 'unsigned', [first, guest]],
  ] as const)('is refused if only %s: %s', (_, code, signers) => {
    expect(codeOf(() => openRoster(c.seal(grown, signers), founding))).toBe(code)
  })

  it.each([
    ['skips a version', 'replayed', { version: 3 }],
    ['follows another roster', 'forked', { prev: digestOf(utf8('other')) }],
    ['is that of another consortium', 'wrong-consortium', { consortium: digestOf(utf8('other')) }],
  ] as const)('is refused if it %s: %s', (_, code, changes) => {
    expect(codeOf(() => openRoster(c.seal({ ...grown, ...changes }), founding))).toBe(code)
  })

  it('that revokes a member still covers its statements up to a sequence number', () => {
    const revoked = revokeMember(grown, guest.peerId, 'left', 3, NOW)
    expect(isMember(revoked, guest.peerId)).toBe(false)
    expect(mayPublish(revoked, guest.peerId, 3)).toBe(true)
    expect(mayPublish(revoked, guest.peerId, 4)).toBe(false)
    expect(mayPublish(revoked, stranger.peerId, 1)).toBe(false)
  })
})
