/**
 * Implements protocols/expert-package (v1.0.0), section "File": strict safetensors on bytes. Tensors must follow each
 * other from the end of the header to the end of the file, without gap or overlap. Does not know tensor libraries or
 * which tensors are expected.
 */
import { utf8 } from '../lib/bytes.ts'
import { FormatError } from '../lib/errors.ts'
import {
  bf16FromFloat32,
  type FloatDtype,
  f16FromFloat32,
  float32FromBf16,
  float32FromF16,
} from '../lib/float-formats.ts'
import { limit } from '../lib/limits.ts'
import { DTYPE_BYTES, type Dtype, METADATA_KEY, parseHeader } from './safetensors-header.ts'

export interface TensorEntry {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** Little-endian bytes, possibly a view of the file and not aligned. */
  readonly data: Uint8Array
}

/** The position of one tensor in its file. */
export interface TensorLocation {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** From the beginning of the file, in bytes. */
  readonly offset: number
  readonly length: number
}

export interface SafetensorsLayout {
  /** In file order. */
  readonly tensors: ReadonlyMap<string, TensorLocation>
  readonly metadata: ReadonlyMap<string, string>
}

export interface Safetensors {
  /** In file order. */
  readonly tensors: Map<string, TensorEntry>
  readonly metadata: Map<string, string>
}

/** Metadata without which Hugging Face loaders refuse a file. */
export const HUGGING_FACE_METADATA: ReadonlyMap<string, string> = new Map([['format', 'pt']])

/** The file starts with the header length: 8 bytes, unsigned, little-endian. */
export const LENGTH_BYTES = 8
const HEADER_ALIGNMENT = 8

/**
 * Number of bytes that `readSafetensorsHeader` needs: those of the length field and the header.
 * @throws FormatError `truncated`, `too-large`, `bad-safetensors`.
 */
export function safetensorsPrefixLength(prefix: Uint8Array, fileSize: number): number {
  if (fileSize < LENGTH_BYTES || prefix.length < LENGTH_BYTES) {
    throw new FormatError('truncated', `safetensors: expected at least ${LENGTH_BYTES} bytes`)
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, LENGTH_BYTES)
  const length = view.getUint32(0, true)
  if (view.getUint32(4, true) !== 0 || length > limit('safetensorsHeaderBytes')) {
    throw new FormatError(
      'too-large',
      `safetensors header: expected at most ${limit('safetensorsHeaderBytes')} bytes`,
    )
  }
  if (length < 2) throw bad(`header: expected at least 2 bytes, got ${length}`)
  if (LENGTH_BYTES + length > fileSize) {
    throw new FormatError(
      'truncated',
      `safetensors: header of ${length} bytes in a file of ${fileSize} bytes`,
    )
  }
  return LENGTH_BYTES + length
}

/**
 * Read only the header, from the first bytes of a file of known size.
 * @throws FormatError `truncated`, `too-large`, `bad-safetensors`.
 */
export function readSafetensorsHeader(prefix: Uint8Array, fileSize: number): SafetensorsLayout {
  const dataStart = safetensorsPrefixLength(prefix, fileSize)
  if (prefix.length < dataStart) {
    throw new FormatError(
      'truncated',
      `safetensors header: expected ${dataStart} bytes, got ${prefix.length}`,
    )
  }
  const header = parseHeader(prefix.subarray(LENGTH_BYTES, dataStart))
  const entries = [...header.tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)
  const tensors = new Map<string, TensorLocation>()
  let at = 0
  for (const [name, { dtype, shape, begin, end }] of entries) {
    const title = `tensor "${name.slice(0, 80)}"`
    if (begin !== at) throw bad(`${title}: expected to begin at ${at}, got ${begin}`)
    const length = byteLengthOf(dtype, shape, title)
    if (end - begin !== length) throw bad(`${title}: expected ${length} bytes, got ${end - begin}`)
    tensors.set(name, { name, dtype, shape, offset: dataStart + begin, length })
    at = end
  }
  const available = fileSize - dataStart
  if (at > available) {
    throw new FormatError('truncated', `safetensors: expected ${at} bytes of data, got ${available}`)
  }
  if (at < available) throw bad(`file: ${available - at} bytes after the last tensor`)
  return { tensors, metadata: header.metadata }
}

/**
 * Read a whole file. Tensor data are views of `bytes`.
 * @throws FormatError `truncated`, `too-large`, `bad-safetensors`.
 */
export function readSafetensors(bytes: Uint8Array): Safetensors {
  const layout = readSafetensorsHeader(bytes, bytes.length)
  const tensors = new Map<string, TensorEntry>()
  for (const { name, dtype, shape, offset, length } of layout.tensors.values()) {
    tensors.set(name, { name, dtype, shape, data: bytes.subarray(offset, offset + length) })
  }
  return { tensors, metadata: new Map(layout.metadata) }
}

/** What the header states about a tensor. */
export type TensorSpec = Pick<TensorEntry, 'name' | 'dtype' | 'shape'>

/**
 * Sort tensors as they are stored in a file: by element size, largest first, so that every tensor is aligned; then by
 * name, so that equal content gives equal bytes.
 */
export function inFileOrder<T extends TensorSpec>(entries: Iterable<T>): T[] {
  return [...entries].sort(
    (a, b) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype] || compareText(a.name, b.name),
  )
}

/**
 * The file as consecutive parts: the header, then the bytes of each tensor, without copying them.
 * @throws FormatError `bad-safetensors` for entries that a reader would refuse, `too-large`.
 */
export function writeSafetensors(
  entries: Iterable<TensorEntry>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Uint8Array[] {
  const ordered = inFileOrder(entries)
  for (const { name, dtype, shape, data } of ordered) {
    const length = byteLengthOf(dtype, shape, `tensor "${name}"`)
    if (data.length !== length) throw bad(`tensor "${name}": expected ${length} bytes, got ${data.length}`)
  }
  return [writeSafetensorsHeader(ordered, metadata), ...ordered.map((entry) => entry.data)]
}

/**
 * The length field and the header of a file whose tensors follow in the given order.
 * @throws FormatError `bad-safetensors` for a name used twice, `too-large`.
 */
export function writeSafetensorsHeader(
  ordered: readonly TensorSpec[],
  metadata: ReadonlyMap<string, string> = new Map(),
): Uint8Array {
  const members: string[] = []
  if (metadata.size > 0) {
    const pairs = [...metadata].sort(([a], [b]) => compareText(a, b))
    members.push(
      `${JSON.stringify(METADATA_KEY)}:{${pairs.map(([key, value]) => `${quote(key)}:${quote(value)}`).join(',')}}`,
    )
  }
  const names = new Set<string>([METADATA_KEY])
  let at = 0
  for (const { name, dtype, shape } of ordered) {
    if (names.has(name)) throw bad(`tensor "${name}": the name is used twice or reserved`)
    names.add(name)
    const length = byteLengthOf(dtype, shape, `tensor "${name}"`)
    const offsets = `[${at},${at + length}]`
    members.push(`${quote(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":${offsets}}`)
    at += length
  }
  if (ordered.length > limit('tensorsPerFile')) {
    throw new FormatError('too-large', `safetensors: at most ${limit('tensorsPerFile')} tensors in a file`)
  }
  return lengthAndHeader(`{${members.join(',')}}`)
}

function lengthAndHeader(json: string): Uint8Array {
  const header = utf8(json)
  const padded = Math.ceil(header.length / HEADER_ALIGNMENT) * HEADER_ALIGNMENT
  if (padded > limit('safetensorsHeaderBytes')) {
    throw new FormatError('too-large', `safetensors header: ${padded} bytes, too many tensors for one file`)
  }
  const bytes = new Uint8Array(LENGTH_BYTES + padded).fill(0x20)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true)
  bytes.set(header, LENGTH_BYTES)
  return bytes
}

/** Bytes of a tensor. @throws FormatError `bad-safetensors` if the product is not a safe integer. */
export function byteLengthOf(dtype: Dtype, shape: readonly number[], title = 'tensor'): number {
  let length: number = DTYPE_BYTES[dtype]
  for (const dimension of shape) {
    length *= dimension
    if (!Number.isSafeInteger(length) || dimension < 0) throw bad(`${title}: size out of range`)
  }
  return length
}

/**
 * The values of a floating point tensor. For aligned F32 data the result is a view of the same memory.
 * @throws FormatError `bad-safetensors` for any other dtype.
 */
export function toFloat32(entry: Pick<TensorEntry, 'dtype' | 'data'>): Float32Array {
  const { dtype } = entry
  if (dtype !== 'F32' && dtype !== 'BF16' && dtype !== 'F16') {
    throw bad(`dtype: expected F32, BF16 or F16, got ${dtype}`)
  }
  const size = DTYPE_BYTES[dtype]
  if (entry.data.length % size !== 0)
    throw bad(`${dtype}: expected a multiple of ${size} bytes, got ${entry.data.length}`)
  const data = entry.data.byteOffset % size === 0 ? entry.data : entry.data.slice()
  const count = data.length / size
  if (dtype === 'F32') return new Float32Array(data.buffer, data.byteOffset, count)
  const halves = new Uint16Array(data.buffer, data.byteOffset, count)
  return dtype === 'BF16' ? float32FromBf16(halves) : float32FromF16(halves)
}

/** Little-endian bytes of the values, rounded to nearest even. For F32 the result is a view of the same memory. */
export function fromFloat32(values: Float32Array, dtype: FloatDtype): Uint8Array {
  const stored =
    dtype === 'F32' ? values : dtype === 'BF16' ? bf16FromFloat32(values) : f16FromFloat32(values)
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength)
}

function quote(text: string): string {
  if (!text.isWellFormed()) throw bad('name: lone surrogate')
  return JSON.stringify(text)
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function bad(message: string): FormatError {
  return new FormatError('bad-safetensors', message)
}
