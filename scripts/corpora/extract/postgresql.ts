/** The PostgreSQL manual; each page is a document. */
import { basename, join } from 'node:path'
import type { Extractor } from './document.ts'
import { filesBelow, readText } from './files.ts'
import { htmlText } from './html.ts'

export const postgresqlManual: Extractor = function* (folder) {
  const root = folder('postgresql-doc-15')
  for (const path of filesBelow(root, /\.html$/))
    yield { id: basename(path), text: htmlText(readText(join(root, path))) }
}
