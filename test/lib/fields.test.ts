import { describe, expect, it } from 'vitest'
import { FormatError } from '../../src/lib/errors.ts'
import { Fields } from '../../src/lib/fields.ts'

/** The message of the FormatError that `read` throws. */
function messageOf(read: () => unknown): string {
  try {
    read()
  } catch (error) {
    if (error instanceof FormatError && error.code === 'bad-field') return error.message
    throw error
  }
  return 'nothing thrown'
}

const list = (value: unknown) => () => new Fields({ value }, 'form').list('value', 16, (item) => item)
const text = (value: unknown) => () => new Fields({ value }, 'form').text('value', 8)

describe('Fields', () => {
  it.each([
    [17, 'a list of 17 items'],
    [1000, 'a list of 1000 items'],
  ])('tells the length of a list of %d items, if it is too long', (length, found) => {
    expect(messageOf(list(new Array(length).fill(0)))).toBe(
      `form.value: expected a list of 0 to 16 items, got ${found}`,
    )
  })

  it('tells the length of a text that is too long', () => {
    expect(messageOf(text('a'.repeat(41)))).toBe(
      `form.value: expected text of 1 to 8 characters, got text of 41 characters that begins "${'a'.repeat(40)}"`,
    )
    expect(messageOf(text('ten digits'))).toBe(
      'form.value: expected text of 1 to 8 characters, got "ten digits"',
    )
  })

  it('tells the length of bytes that are too many', () => {
    const read = () => new Fields({ value: new Uint8Array(9) }, 'form').bytes('value', { max: 8 })
    expect(messageOf(read)).toBe('form.value: expected at most 8 bytes, got 9 bytes')
  })

  it.each([
    [undefined, 'nothing'],
    [null, 'null'],
    [true, 'true'],
    [12, '12'],
    ['', '""'],
    [{}, 'an object'],
    [['x'], 'a list of 1 item'],
    [Uint8Array.of(1), '1 byte'],
  ])('names %j among wrong values as %s', (value, found) => {
    const read = () => new Fields({ value }, 'form').literal('value', 'yes', 'no')
    expect(messageOf(read)).toBe(`form.value: expected yes or no, got ${found}`)
  })

  it('names what it got instead of an object', () => {
    expect(messageOf(() => new Fields([1, 2], 'form'))).toBe(
      'form: expected an object, got a list of 2 items',
    )
  })

  it('refuses fields that were not read', () => {
    const fields = new Fields({ known: 1, unknown: 2 }, 'form')
    expect(fields.uint('known')).toBe(1)
    expect(messageOf(() => fields.end())).toBe('form: unknown field "unknown"')
  })
})
