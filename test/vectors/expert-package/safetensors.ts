/** Test vectors of section File: safetensors files, read strictly. */
import { concatBytes, toHex, utf8 } from '../../../src/lib/bytes.ts'
import { limit } from '../../../src/lib/limits.ts'
import { rawSafetensors } from '../../support/packages.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'

export function safetensorsVectors(): Vector[] {
  const one = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'
  const two = '"b":{"dtype":"F32","shape":[1],"data_offsets":'
  const bad = 'bad-safetensors'
  const cases: [...Case, string, number][] = [
    ['one-tensor', 'accept', 'the smallest useful file', `{"a":{${one}}}`, 4],
    ['empty', 'accept', 'no tensors and no data', '{}', 0],
    [
      'metadata',
      'accept',
      'text to text under __metadata__',
      `{"__metadata__":{"format":"pt"},"a":{${one}}}`,
      4,
    ],
    [
      'other-order',
      'accept',
      'members in any order, white space, padding',
      `{ "a": {"shape": [1], "data_offsets": [0, 4], "dtype": "F32"} }   `,
      4,
    ],
    [
      'empty-tensor',
      'accept',
      'a dimension of zero holds no bytes',
      '{"a":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'duplicate-name',
      bad,
      'JSON readers keep the last of two; two readers would see two files',
      `{"a":{${one}},"a":{${one}}}`,
      4,
    ],
    [
      'duplicate-name-escaped',
      bad,
      'an escape is another spelling of the same name',
      `{"a":{${one}},"\\u0061":{${one}}}`,
      4,
    ],
    ['duplicate-member', bad, 'two dtypes', `{"a":{"dtype":"F16",${one}}}`, 4],
    [
      'duplicate-metadata-key',
      bad,
      'also inside __metadata__',
      `{"__metadata__":{"k":"1","k":"2"},"a":{${one}}}`,
      4,
    ],
    ['unknown-member', bad, 'nothing may hide in a tensor', `{"a":{${one},"x":1}}`, 4],
    [
      'unknown-dtype',
      bad,
      'element size unknown',
      '{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}',
      4,
    ],
    [
      'hole-at-start',
      bad,
      'bytes that no tensor owns',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
      8,
    ],
    ['hole-between', bad, 'bytes that no tensor owns', `{"a":{${one}},${two}[8,12]}}`, 12],
    ['overlap', bad, 'one byte in two tensors', `{"a":{${one}},${two}[2,6]}}`, 6],
    ['same-place', bad, 'two tensors over the same bytes', `{"a":{${one}},${two}[0,4]}}`, 4],
    [
      'reversed-offsets',
      bad,
      'end before begin',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
      4,
    ],
    [
      'wrong-length',
      bad,
      'two elements in four bytes',
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
      4,
    ],
    [
      'overflow',
      bad,
      'the product of the shape leaves the safe integers',
      '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'overflow-times-zero',
      bad,
      'a later zero does not undo an overflow',
      '{"a":{"dtype":"F32","shape":[9007199254740991,2,0],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'fraction',
      bad,
      'integers have one spelling',
      '{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}',
      4,
    ],
    [
      'negative',
      bad,
      'dimensions are not negative',
      '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
      4,
    ],
    ['leading-space', bad, 'the first header byte is {', ` {"a":{${one}}}`, 4],
    ['trailing-text', bad, 'only spaces pad', `{"a":{${one}}}{}`, 4],
    ['trailing-newline', bad, 'only spaces pad', `{"a":{${one}}}\n`, 4],
    ['trailing-data', bad, 'the last tensor ends the file', `{"a":{${one}}}`, 5],
    ['lone-surrogate', bad, 'a name that UTF-8 cannot hold', `{"\\ud800":{${one}}}`, 4],
    ['cut-data', 'truncated', 'fewer bytes than the header names', `{"a":{${one}}}`, 3],
  ]
  const files: [...Case, Uint8Array][] = [
    ['nothing', 'truncated', 'not even a header length', new Uint8Array(0)],
    [
      'cut-header',
      'truncated',
      'the header is longer than the file',
      rawSafetensors(`{"a":{${one}}}`, new Uint8Array(4)).subarray(0, 30),
    ],
    [
      'header-over-cap',
      'too-large',
      'refused by its length alone',
      lengthOnly(limit('safetensorsHeaderBytes') + 1),
    ],
    ['header-of-4-gib', 'too-large', 'the upper half of the length counts', lengthOnly(2 ** 32)],
    [
      'pickle',
      'too-large',
      'a pickle read as a header length',
      concatBytes(utf8('\u0080\u0004'), new Uint8Array(14).fill(0x28)),
    ],
  ]
  return [
    ...vectorsOf('safetensors', 'expert-package File', cases, (header, data) => ({
      decoder: 'safetensors',
      hex: toHex(rawSafetensors(header, new Uint8Array(data))),
    })),
    ...vectorsOf('safetensors', 'expert-package File', files, (bytes) => ({
      decoder: 'safetensors',
      hex: toHex(bytes),
    })),
  ]
}

/** The length of a header that does not follow, and eight zero bytes. */
function lengthOnly(length: number): Uint8Array {
  const bytes = new Uint8Array(16)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true)
  return bytes
}
