import { describe, expect, it } from 'vitest'
import {
  byteSize,
  decodeRequest,
  flag,
  oneOf,
  option,
  type Parameter,
  path,
  paths,
  positional,
  readRequest,
  repeated,
  requiredOption,
  text,
  thousandths,
  whole,
  withDefault,
} from '../../src/commands/parameters.ts'

type Given = string | boolean | string[] | undefined

/** What the command line makes of a parameter, and what the node makes of that. */
async function roundTrip(parameter: Parameter<unknown>, value: Given, positionals: string[] = []) {
  const invocation = { command: 'test', positionals, values: { it: value } }
  const request = JSON.parse(JSON.stringify(await readRequest({ key: parameter }, invocation)))
  return decodeRequest({ key: parameter }, request, 'test').key
}

const WHOLE = option('it', 'help', whole(1, 64))
const THOUSANDTHS = option('it', 'help', thousandths(1, 5000))
const BYTES = option('it', 'help', byteSize(100e6, 1e11))
const WORD = option('it', 'help', oneOf('exact', 'noised', 'none'))
const TEXT = option('it', 'help', text(5))

describe('a parameter', () => {
  it.each<[string, Parameter<unknown>, Given, unknown]>([
    ['whole number', WHOLE, '64', 64],
    ['decimal number', THOUSANDTHS, '0.25', 250],
    ['number of bytes', BYTES, '12GB', 12e9],
    ['word', WORD, 'noised', 'noised'],
    ['text', TEXT, 'abcde', 'abcde'],
    ['relative path', option('it', 'help', path), 'a', `${process.cwd()}/a`],
    ['flag', flag('it', 'help'), true, true],
    ['absent flag', flag('it', 'help'), undefined, false],
    ['absent option', WHOLE, undefined, undefined],
    ['absent option with a default', withDefault(WHOLE, 7), undefined, 7],
    ['repeated option', repeated('it', 'help', 9, 2), ['a', 'b'], ['a', 'b']],
  ])('comes to the node as it was given: %s', async (_, parameter, given, expected) => {
    expect(await roundTrip(parameter, given)).toEqual(expected)
  })

  it.each<[string, Parameter<unknown>, Given, string]>([
    ['number above the range', WHOLE, '65', 'a whole number from 1 to 64, got "65"'],
    ['number below the range', WHOLE, '0', 'a whole number from 1 to 64, got "0"'],
    ['word for a number', WHOLE, 'x', 'a whole number from 1 to 64, got "x"'],
    ['empty number', WHOLE, '', 'a whole number from 1 to 64, got ""'],
    ['decimal number above the range', THOUSANDTHS, '5.1', 'a number from 0.001 to 5, got "5.1"'],
    ['number of bytes below the range', BYTES, '12', '100 MB to 100.0 GB, as in 12GB or 12GiB, got "12"'],
    ['number of bytes in an unknown unit', BYTES, '12G', 'as in 12GB or 12GiB, got "12G"'],
    ['word that is not one of them', WORD, 'some', 'exact, noised or none, got "some"'],
    ['text that is too long', TEXT, 'abcdef', 'text of 1 to 5 characters, got 6'],
    ['missing option', requiredOption('it', 'help', text(5)), undefined, '--it is missing'],
    ['too many of a repeated option', repeated('it', 'help', 9, 2), ['a', 'b', 'c'], 'at most 2, got 3'],
  ])('is refused on the command line as wrong usage: %s', async (_, parameter, given, message) => {
    const refusal = roundTrip(parameter, given)
    await expect(refusal).rejects.toMatchObject({ family: 'input', code: 'usage' })
    await expect(refusal).rejects.toThrow(message)
  })

  it.each<[string, Parameter<unknown>, unknown]>([
    ['number above the range', WHOLE, 65],
    ['number below the range', WHOLE, 0],
    ['decimal number above the range', THOUSANDTHS, 5001],
    ['number of bytes below the range', BYTES, 12],
    ['word that is not one of them', WORD, 'some'],
    ['text that is too long', TEXT, 'abcdef'],
    ['text for a flag', flag('it', 'help'), 'yes'],
    ['missing option', requiredOption('it', 'help', text(5)), undefined],
    ['too many of a repeated option', repeated('it', 'help', 9, 2), ['a', 'b', 'c']],
    ['number in a list of texts', repeated('it', 'help', 9, 2), [1]],
  ])('is refused by the node with the same range: %s', (_, parameter, value) => {
    expect(() => decodeRequest({ key: parameter }, { key: value }, 'test')).toThrow(
      expect.objectContaining({ family: 'format', code: 'bad-field' }),
    )
  })
})

describe('a positional argument', () => {
  it('is the first one after the command', async () => {
    expect(await roundTrip(positional(text(9), 'name it'), undefined, ['first', 'second'])).toBe('first')
  })

  it('says what to name if it is missing', async () => {
    await expect(roundTrip(positional(text(9), 'name it'), undefined)).rejects.toThrow('test: name it')
  })

  it('is a further path of an option that takes several', async () => {
    const given = await roundTrip(paths('it', 'help', 3), ['/a'], ['/b', '/c'])
    expect(given).toEqual(['/a', '/b', '/c'])
  })
})
