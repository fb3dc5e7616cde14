/** French codes (labour, rural, social security) from a tree of sections in JSON; each article is a document. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Extractor, RawDocument } from './document.ts'
import { htmlText } from './html.ts'

const CODES = ['LEGITEXT000006072050', 'LEGITEXT000022197698', 'LEGITEXT000006073189']

export interface CodeNode {
  readonly type: string
  readonly data: {
    readonly cid?: string
    readonly title?: string
    readonly num?: string
    readonly texte?: string | null
    readonly texteHtml?: string | null
  }
  readonly children?: readonly CodeNode[]
}

export const frenchCodes: Extractor = function* (folder) {
  for (const code of CODES) {
    const path = join(folder('@socialgouv/legi-data'), 'data', `${code}.json`)
    yield* articles(JSON.parse(readFileSync(path, 'utf8')) as CodeNode)
  }
}

/** Articles, each with the title of its section. */
export function* articles({ type, data, children }: CodeNode, section = ''): Generator<RawDocument> {
  if (type !== 'article') {
    for (const child of children ?? []) yield* articles(child, data.title ?? section)
  } else if (data.texte) {
    yield {
      id: data.cid ?? '',
      text: `Article ${data.num} (${section})\n${htmlText(data.texteHtml ?? data.texte)}`,
    }
  }
}
