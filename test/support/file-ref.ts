/** References of files in memory. */
import { FileHasher, type HashedFile } from '../../src/lib/file-ref.ts'

/** Reference of a file given as bytes or as consecutive parts. */
export function fileRefOf(file: Uint8Array | readonly Uint8Array[]): HashedFile {
  const hasher = new FileHasher()
  for (const part of file instanceof Uint8Array ? [file] : file) hasher.update(part)
  return hasher.finish()
}
