import { describe, expect, it } from 'vitest'
import { decodeInvite } from '../../src/consortium/invite.ts'
import { consortium } from '../support/consortium.ts'
import { codeOf } from '../support/packages.ts'

const c = consortium()
const text = c.invitation()

describe('an invitation', () => {
  it('is one line, and white space around it has no effect', () => {
    expect(text).not.toMatch(/\s/)
    expect(decodeInvite(` ${text}\n`)).toEqual(decodeInvite(text))
    expect(decodeInvite(text)).toMatchObject({ consortium: c.id, name: c.charter.name })
  })

  it.each([
    ['cut', text.slice(0, -3)],
    ['damaged', text.replace('a', 'b')],
    ['not an invitation', 'hello'],
  ])('is refused if it is %s', (_, damaged) => {
    expect(codeOf(() => decodeInvite(damaged))).toBe('usage')
  })
})
