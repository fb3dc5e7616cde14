/** Reads whole files one after the other: the baseline for loading. */
import { open } from 'node:fs/promises'

/** @param target Returns the buffer for the file at an index; at least `size` bytes. */
export async function readFiles(
  paths: readonly string[],
  target: (index: number, size: number) => Uint8Array,
): Promise<void> {
  for (const [index, path] of paths.entries()) {
    const file = await open(path, 'r')
    try {
      const { size } = await file.stat()
      const bytes = target(index, size)
      for (let at = 0; at < size; ) at += (await file.read(bytes, at, size - at, at)).bytesRead
    } finally {
      await file.close()
    }
  }
}

/** Duration of an action, ms. */
export async function timed(action: () => Promise<void>): Promise<number> {
  const started = performance.now()
  await action()
  return performance.now() - started
}
