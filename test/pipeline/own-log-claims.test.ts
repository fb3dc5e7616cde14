import { describe, expect, it } from 'vitest'
import { OwnLogClaims } from '../../src/pipeline/own-log-claims.ts'

describe('a claim to hold later statements of this node', () => {
  it('keeps it from signing until the member was asked for them', () => {
    const claims = new OwnLogClaims()
    claims.claim('member', 5)
    expect(claims.isOpen(4)).toBe(true)
    expect(claims.isOpen(5)).toBe(false)
    claims.asked('member', 5)
    expect(claims.isOpen(4)).toBe(false)
  })

  it('of a member that then delivered none is not believed again', () => {
    const claims = new OwnLogClaims()
    claims.claim('liar', 5)
    claims.asked('liar', 4)
    claims.claim('liar', 9)
    expect(claims.isOpen(4)).toBe(false)
    claims.claim('member', 5)
    expect(claims.isOpen(4)).toBe(true)
  })

  it('of a member that claims nothing beyond this node keeps it from nothing', () => {
    const claims = new OwnLogClaims()
    claims.claim('member', undefined)
    expect(claims.isOpen(0)).toBe(false)
  })
})
