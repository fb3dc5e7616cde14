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
      'metadata that maps text to text',
      `{"__metadata__":{"format":"pt"},"a":{${one}}}`,
      4,
    ],
    [
      'other-order',
      'accept',
      'members in another order, with white space and padding',
      `{ "a": {"shape": [1], "data_offsets": [0, 4], "dtype": "F32"} }   `,
      4,
    ],
    [
      'empty-tensor',
      'accept',
      'a tensor with a dimension of 0 and no bytes',
      '{"a":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}}',
      0,
    ],
    ['duplicate-name', bad, 'a tensor name that occurs twice', `{"a":{${one}},"a":{${one}}}`, 4],
    [
      'duplicate-name-escaped',
      bad,
      'a tensor name that occurs twice, once with an escape',
      `{"a":{${one}},"\\u0061":{${one}}}`,
      4,
    ],
    ['duplicate-member', bad, 'a tensor with two dtypes', `{"a":{"dtype":"F16",${one}}}`, 4],
    [
      'duplicate-metadata-key',
      bad,
      'a key of __metadata__ that occurs twice',
      `{"__metadata__":{"k":"1","k":"2"},"a":{${one}}}`,
      4,
    ],
    ['unknown-member', bad, 'a member of a tensor that the format does not have', `{"a":{${one},"x":1}}`, 4],
    [
      'unknown-dtype',
      bad,
      'a dtype that the format does not have',
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
    ['overlap', bad, 'two tensors that overlap by a byte', `{"a":{${one}},${two}[2,6]}}`, 6],
    ['same-place', bad, 'two tensors with the same offsets', `{"a":{${one}},${two}[0,4]}}`, 4],
    [
      'reversed-offsets',
      bad,
      'an end offset before the begin offset',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
      4,
    ],
    [
      'wrong-length',
      bad,
      'fewer bytes than shape and dtype call for',
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
      4,
    ],
    [
      'overflow',
      bad,
      'a shape whose product is above 2^53',
      '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'overflow-times-zero',
      bad,
      'a shape whose product is above 2^53 before a last dimension of 0',
      '{"a":{"dtype":"F32","shape":[9007199254740991,2,0],"data_offsets":[0,0]}}',
      0,
    ],
    [
      'fraction',
      bad,
      'a dimension written as a fraction',
      '{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}',
      4,
    ],
    ['negative', bad, 'a negative dimension', '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', 4],
    ['leading-space', bad, 'a header that begins with a space', ` {"a":{${one}}}`, 4],
    ['trailing-text', bad, 'characters other than spaces after the header', `{"a":{${one}}}{}`, 4],
    ['trailing-newline', bad, 'characters other than spaces after the header', `{"a":{${one}}}\n`, 4],
    ['trailing-data', bad, 'bytes after the last tensor', `{"a":{${one}}}`, 5],
    ['lone-surrogate', bad, 'a tensor name with half of a surrogate pair', `{"\\ud800":{${one}}}`, 4],
    ['cut-data', 'truncated', 'a file that ends before its last tensor', `{"a":{${one}}}`, 3],
  ]
  const files: [...Case, Uint8Array][] = [
    ['nothing', 'truncated', 'an empty file', new Uint8Array(0)],
    [
      'cut-header',
      'truncated',
      'the header is longer than the file',
      rawSafetensors(`{"a":{${one}}}`, new Uint8Array(4)).subarray(0, 30),
    ],
    [
      'header-over-cap',
      'too-large',
      'a header length above the limit',
      lengthOnly(limit('safetensorsHeaderBytes') + 1),
    ],
    ['header-of-4-gib', 'too-large', 'a header length above 2^32', lengthOnly(2 ** 32)],
    [
      'pickle',
      'too-large',
      'a pickle instead of a safetensors file',
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
