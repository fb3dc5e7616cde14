import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  readSafetensors,
  readSafetensorsHeader,
  type TensorEntry,
  toFloat32,
  writeSafetensors,
} from '../../src/checkpoint/safetensors.ts'
import { DTYPE_BYTES, type Dtype } from '../../src/checkpoint/safetensors-header.ts'
import { concatBytes, equalBytes, utf8 } from '../../src/lib/bytes.ts'
import { FlexMeshError, FormatError } from '../../src/lib/errors.ts'
import { limit } from '../../src/lib/limits.ts'
import { codeOf, mutate, rawSafetensors } from '../support/packages.ts'

const DTYPES = Object.keys(DTYPE_BYTES) as Dtype[]

function entry(name: string, dtype: Dtype, shape: number[], fill = 1): TensorEntry {
  const length = shape.reduce((product, dimension) => product * dimension, DTYPE_BYTES[dtype])
  return { name, dtype, shape, data: new Uint8Array(length).fill(fill) }
}

const entries = fc.uniqueArray(
  fc.record({
    name: fc.string({ unit: 'binary', maxLength: 20 }).filter((name) => name !== '__metadata__'),
    dtype: fc.constantFrom(...DTYPES),
    shape: fc.array(fc.nat(4), { maxLength: 3 }),
    fill: fc.nat(255),
  }),
  { selector: ({ name }) => name, maxLength: 6 },
)
const metadata = fc
  .dictionary(fc.string({ unit: 'binary', maxLength: 8 }), fc.string({ unit: 'binary', maxLength: 8 }))
  .map((object) => new Map(Object.entries(object)))

describe('safetensors', () => {
  it('reads what it wrote, for any names, dtypes and shapes', () => {
    fc.assert(
      fc.property(entries, metadata, (specs, meta) => {
        const written = specs.map(({ name, dtype, shape, fill }) => entry(name, dtype, shape, fill))
        const parts = writeSafetensors(written, meta)
        const read = readSafetensors(concatBytes(...parts))
        expect(read.metadata).toEqual(meta)
        expect(read.tensors.size).toBe(written.length)
        for (const item of written) {
          const found = read.tensors.get(item.name) as TensorEntry
          expect([found.dtype, found.shape]).toEqual([item.dtype, item.shape])
          expect(equalBytes(found.data, item.data)).toBe(true)
        }
      }),
      { seed: 1, numRuns: 300 },
    )
  })

  it('writes equal bytes for equal content in any order', () => {
    const a = entry('a', 'F16', [2, 2])
    const b = entry('b', 'F32', [3])
    const one = concatBytes(
      ...writeSafetensors(
        [a, b],
        new Map([
          ['x', '1'],
          ['k', '2'],
        ]),
      ),
    )
    const two = concatBytes(
      ...writeSafetensors(
        [b, a],
        new Map([
          ['k', '2'],
          ['x', '1'],
        ]),
      ),
    )
    expect(one).toEqual(two)
  })

  it('pads the header to eight bytes with spaces and puts wide elements first', () => {
    const parts = writeSafetensors(
      [entry('a', 'BF16', [3]), entry('z', 'F32', [2])],
      new Map([['format', 'pt']]),
    )
    const header = parts[0] as Uint8Array
    const length = Number(new DataView(header.buffer).getBigUint64(0, true))
    expect([length % 8, header.length]).toEqual([0, 8 + length])
    expect(Buffer.from(header.subarray(8)).toString().trimEnd()).toBe(
      '{"__metadata__":{"format":"pt"},"z":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},' +
        '"a":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]}}',
    )
  })

  it('writes the given data and reads views of the file, without copies', () => {
    const tensor = entry('a', 'F32', [4])
    const parts = writeSafetensors([tensor])
    expect(parts[1]).toBe(tensor.data)
    const file = concatBytes(...parts)
    const read = readSafetensors(file).tensors.get('a') as TensorEntry
    expect(read.data.buffer).toBe(file.buffer)
    expect(toFloat32(read).buffer).toBe(file.buffer)
  })

  it('accepts another order of keys and other white space in the header, as other programs write it', () => {
    const file = rawSafetensors(
      '{ "b" : {"data_offsets":[4, 8],\n"shape":[ ],"dtype":"F32"}, "a":{"shape":[2],"dtype":"F16","data_offsets":[0,4]} }  ',
      new Uint8Array(8),
    )
    expect([...readSafetensors(file).tensors.keys()]).toEqual(['a', 'b'])
    expect(readSafetensors(rawSafetensors('{}', new Uint8Array(0))).tensors.size).toBe(0)
  })

  it('reads the header from only the first bytes of a file', () => {
    const file = concatBytes(...writeSafetensors([entry('a', 'F32', [1000])]))
    const layout = readSafetensorsHeader(file.subarray(0, 200), file.length)
    const location = layout.tensors.get('a')
    expect([location?.length, (location?.offset ?? 0) + 4000]).toEqual([4000, file.length])
  })

  const one = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'
  const refusals: [string, string, number, string?][] = [
    ['a repeated tensor name', `{"a":{${one}},"a":{${one}}}`, 4],
    ['a repeated name spelled with an escape', `{"a":{${one}},"\\u0061":{${one}}}`, 4],
    ['repeated metadata', `{"__metadata__":{},"__metadata__":{},"a":{${one}}}`, 4],
    ['a repeated metadata key', `{"__metadata__":{"k":"1","k":"2"},"a":{${one}}}`, 4],
    ['metadata that is not text', `{"__metadata__":{"k":1},"a":{${one}}}`, 4],
    ['null metadata', `{"__metadata__":null,"a":{${one}}}`, 4],
    ['a repeated dtype', `{"a":{"dtype":"F16",${one}}}`, 4],
    ['an unknown member', `{"a":{${one},"x":1}}`, 4],
    ['a missing member', '{"a":{"dtype":"F32","shape":[1]}}', 4],
    ['an unknown dtype', '{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}', 4],
    [
      'a dtype named like an inherited member',
      '{"a":{"dtype":"toString","shape":[],"data_offsets":[0,4]}}',
      4,
    ],
    ['three offsets', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}', 4],
    ['offsets in reverse', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', 4],
    ['a gap before the first tensor', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8],
    ['a gap between tensors', `{"a":{${one}},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12],
    ['an overlap', `{"a":{${one}},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`, 6],
    ['two tensors with the same offsets', `{"a":{${one}},"b":{${one}}}`, 4],
    ['a shape that does not fill its offsets', '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', 4],
    ['bytes after the last tensor', `{"a":{${one}}}`, 5],
    ['data without a tensor', '{}', 1],
    [
      'a shape whose product overflows',
      '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'an overflow hidden by a zero',
      '{"a":{"dtype":"F32","shape":[9007199254740991,2,0],"data_offsets":[0,0]}}',
      0,
    ],
    ['a negative dimension', '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', 4],
    ['a fraction', '{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', 4],
    ['an exponent', '{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}', 4],
    ['a leading zero', '{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}', 4],
    [
      'an integer that is not safe',
      '{"a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,4]}}',
      4,
    ],
    ['a trailing comma', `{"a":{${one}},}`, 4],
    ['text after the header', `{"a":{${one}}}x`, 4],
    ['a second object after the header', `{"a":{${one}}}{}`, 4],
    ['a line break as padding', `{"a":{${one}}}\n`, 4],
    ['a space before the header', ` {"a":{${one}}}`, 4],
    ['an array as header', '[]', 0],
    ['a lone surrogate', `{"\\ud800":{${one}}}`, 4],
    ['a control character in a name', `{"a\n":{${one}}}`, 4],
    ['an unfinished header', `{"a":{${one}}`, 4],
    ['an unfinished string', '{"a', 0],
    ['an escape at the end', '{"a\\', 0],
    ['less data than its offsets need', `{"a":{${one}}}`, 3, 'truncated'],
  ]
  it.each(refusals)('refuses %s', (_title, header, dataLength, code = 'bad-safetensors') => {
    expect(codeOf(() => readSafetensors(rawSafetensors(header, new Uint8Array(dataLength))))).toBe(code)
  })

  it('refuses bytes that are not UTF-8', () => {
    const header = utf8('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')
    header[2] = 0xff
    expect(codeOf(() => readSafetensors(rawSafetensors(header, new Uint8Array(4))))).toBe('bad-safetensors')
  })

  it('refuses a header length above the limit first of all', () => {
    for (const length of [
      BigInt(limit('safetensorsHeaderBytes') + 1),
      2n ** 32n,
      2n ** 63n,
      2n ** 64n - 1n,
    ]) {
      const file = new Uint8Array(64)
      new DataView(file.buffer).setBigUint64(0, length, true)
      expect(codeOf(() => readSafetensors(file))).toBe('too-large')
    }
  })

  it('refuses more tensors than the limit, reading and writing', () => {
    const count = limit('tensorsPerFile') + 1
    const many = Array.from({ length: count }, (_, index) => entry(`t${index}`, 'U8', [0]))
    expect(codeOf(() => writeSafetensors(many))).toBe('too-large')
    const members = many.map(({ name }) => `"${name}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`)
    expect(codeOf(() => readSafetensors(rawSafetensors(`{${members.join(',')}}`, new Uint8Array(0))))).toBe(
      'too-large',
    )
  })

  it('refuses every prefix of a valid file', () => {
    const file = concatBytes(...writeSafetensors([entry('a', 'F32', [2]), entry('b', 'U8', [3])]))
    for (let length = 0; length < file.length; length++) {
      expect(codeOf(() => readSafetensors(file.subarray(0, length)))).toBe('truncated')
    }
  })

  it('refuses other kinds of files: pickle, zip, 7z, gguf, numpy, hdf5, gzip', () => {
    const magics = [
      '\x80\x04\x95',
      'PK\x03\x04',
      '7z\xbc\xaf\x27\x1c',
      'GGUF',
      '\x93NUMPY',
      '\x89HDF\r\n\x1a\n',
      '\x1f\x8b',
    ]
    for (const magic of magics) {
      const file = new Uint8Array(256)
      file.set(Buffer.from(magic, 'latin1'))
      expect(() => readSafetensors(file)).toThrow(FormatError)
    }
  })

  it('reads each of 20,000 mutants of a valid file as a sound file, or throws one of our errors', () => {
    const valid = concatBytes(
      ...writeSafetensors([entry('w', 'F32', [3, 2]), entry('v', 'BF16', [5])], new Map([['format', 'pt']])),
    )
    let accepted = 0
    let refused = 0
    for (const mutant of mutate(valid, 20_000, 7)) {
      try {
        const { tensors } = readSafetensors(mutant)
        const total = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0)
        const dataStart = 8 + Number(new DataView(mutant.buffer, mutant.byteOffset).getBigUint64(0, true))
        expect(total).toBe(mutant.length - dataStart)
        accepted++
      } catch (error) {
        expect(error).toBeInstanceOf(FlexMeshError)
        refused++
      }
    }
    expect(refused).toBeGreaterThan(accepted)
  })
})
