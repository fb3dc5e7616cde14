/**
 * Writes safetensors files of any size from weights, one piece of a tensor in memory at a time. A file appears complete
 * or not at all. Does not know model architectures.
 */
import { type FileHandle, open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { mapDiskErrors, PIECE_BYTES, PRIVATE_FILE_MODE, syncDir } from '../lib/files.ts'
import type { FloatDtype } from '../lib/float-formats.ts'
import { requireFreeSpace } from '../lib/free-space.ts'
import { withTemporary } from '../lib/temporary.ts'
import { countOf, dtypeOf, readBytes, readValues, type Weight } from '../model/weights.ts'
import {
  byteLengthOf,
  fromFloat32,
  HUGGING_FACE_METADATA,
  inFileOrder,
  writeSafetensorsHeader,
} from './safetensors.ts'
import { DTYPE_BYTES } from './safetensors-header.ts'

/** A tensor to write. */
export interface NamedTensor {
  readonly name: string
  readonly weight: Weight
  /** Format in the file, to which the values are rounded; default: the weight's own, whose bytes are copied. */
  readonly dtype?: FloatDtype | undefined
}

export interface TensorFileOptions {
  /** Metadata of the header; default: what Hugging Face loaders demand. */
  readonly metadata?: ReadonlyMap<string, string> | undefined
  readonly signal?: AbortSignal | undefined
  /** Called with the bytes written so far, and those of the whole file. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

/** Bytes of a tensor in the file. */
export function tensorBytes({ name, weight, dtype = dtypeOf(weight) }: NamedTensor): number {
  return byteLengthOf(dtype, weight.shape, `tensor "${name}"`)
}

/**
 * The bytes of a weight in format `dtype`, little-endian, piece by piece: whole rows if a row fits a piece. All pieces
 * lie in the same memory, so each must be used before the next one is asked for, and never changed.
 * @throws as `WeightSource.read`.
 */
export async function* bytePieces(
  weight: Weight,
  dtype: FloatDtype = dtypeOf(weight),
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const size = DTYPE_BYTES[dtype]
  const count = countOf(weight)
  const width = weight.shape.at(-1) ?? 1
  const most = PIECE_BYTES / DTYPE_BYTES.F32
  const pieceValues = Math.min(count, width <= most ? most - (most % width) : most)
  const isCopied = dtype === dtypeOf(weight) && dtype !== 'F32'
  const values = isCopied ? undefined : new Float32Array(pieceValues)
  const bytes = isCopied ? new Uint8Array(pieceValues * size) : undefined
  for (let from = 0; from < count; from += pieceValues) {
    signal?.throwIfAborted()
    const length = Math.min(pieceValues, count - from)
    if (bytes !== undefined) {
      const piece = bytes.subarray(0, length * size)
      await readBytes(weight, piece, from * size, signal)
      yield piece
    } else if (values !== undefined) {
      const piece = values.subarray(0, length)
      await readValues(weight, piece, from, signal)
      yield fromFloat32(piece, dtype)
    }
  }
}

/**
 * The bytes of a safetensors file: its header, then its tensors, piece by piece. As in `bytePieces`, each piece must be
 * used before the next one is asked for.
 * @throws FormatError `bad-safetensors` for a name used twice, `too-large` for too many tensors; as `WeightSource.read`.
 */
export async function* tensorFilePieces(
  tensors: Iterable<NamedTensor>,
  { metadata = HUGGING_FACE_METADATA, signal, onProgress }: TensorFileOptions = {},
): AsyncGenerator<Uint8Array, void, void> {
  const { header, ordered, total } = layoutOf(tensors, metadata)
  yield header
  let done = header.length
  for (const { weight, dtype } of ordered) {
    for await (const piece of bytePieces(weight, dtype, signal)) {
      yield piece
      done += piece.length
      onProgress?.(done, total)
    }
  }
}

/** Bytes of the whole file. @throws FormatError as `tensorFilePieces`. */
export function tensorFileBytes(
  tensors: Iterable<NamedTensor>,
  metadata: ReadonlyMap<string, string> = HUGGING_FACE_METADATA,
): number {
  return layoutOf(tensors, metadata).total
}

function layoutOf(
  tensors: Iterable<NamedTensor>,
  metadata: ReadonlyMap<string, string>,
): {
  readonly header: Uint8Array
  readonly ordered: readonly Required<NamedTensor>[]
  /** Bytes of the file. */
  readonly total: number
} {
  const ordered = inFileOrder(
    Array.from(tensors, ({ name, weight, dtype = dtypeOf(weight) }) => ({
      name,
      weight,
      dtype,
      shape: weight.shape,
    })),
  )
  const header = writeSafetensorsHeader(ordered, metadata)
  return { header, ordered, total: ordered.reduce((sum, one) => sum + tensorBytes(one), header.length) }
}

/**
 * Write a safetensors file into an existing folder, readable by the owner only. The file appears complete or not at
 * all; what a killed process has left of an earlier attempt is removed.
 * @throws InputError `disk-full` before anything is written, if the file system has too little space; `permissions`;
 * FormatError as `tensorFilePieces`; as `WeightSource.read`.
 */
export async function writeTensorFile(
  path: string,
  tensors: Iterable<NamedTensor>,
  options: TensorFileOptions = {},
): Promise<void> {
  const list = [...tensors]
  const total = tensorFileBytes(list, options.metadata)
  await mapDiskErrors(path, async () => {
    await withTemporary(path, async (temporary) => {
      // After what a killed process has left is removed, which may take all the space.
      await requireFreeSpace(dirname(path), total)
      await writeNewFile(temporary, tensorFilePieces(list, options), PRIVATE_FILE_MODE)
      await rename(temporary, path)
      await syncDir(dirname(path))
    })
  })
}

/** Write a new file from pieces, and flush it. @param mode default: as the process creates files */
export async function writeNewFile(
  path: string,
  pieces: AsyncIterable<Uint8Array>,
  mode?: number,
): Promise<void> {
  const handle = await open(path, 'wx', mode)
  try {
    for await (const piece of pieces) await writeWhole(handle, piece)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function writeWhole(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += (await handle.write(bytes, at, bytes.length - at)).bytesWritten
  }
}
