/** Extracts the readable text of HTML: each block on its own lines, white space as a browser shows it. */
import { parseHTML } from 'linkedom'

const IGNORED = new Set(['SCRIPT', 'STYLE', 'HEAD', 'NAV', 'SVG', 'TEMPLATE'])
const BLOCKS = new Set(
  'P DIV LI TR H1 H2 H3 H4 H5 H6 DT DD TABLE UL OL PRE BLOCKQUOTE SECTION ARTICLE HR'.split(' '),
)
const TEXT_NODE = 3
const ELEMENT_NODE = 1

/** @param html A whole page or a fragment. */
export function htmlText(html: string): string {
  const page = /<body[\s>]/i.test(html) ? html : `<html><body>${html}</body></html>`
  const { document } = parseHTML(page)
  const parts: string[] = []
  if (document.body !== null) collect(document.body, false, parts)
  return parts
    .join('')
    .replace(/ *\n[ \n]*/g, '\n')
    .replace(/ {2,}/g, ' ')
    .replaceAll(KEPT_SPACE, ' ')
    .replaceAll(KEPT_NEWLINE, '\n')
    .trim()
}

/** Replace white space inside <pre> for a while; from the private use area. */
const KEPT_SPACE = '\ue000'
const KEPT_NEWLINE = '\ue001'

interface HtmlNode {
  readonly nodeType: number
  readonly nodeName: string
  readonly textContent: string | null
  readonly childNodes: Iterable<HtmlNode>
}

function collect(node: HtmlNode, preformatted: boolean, parts: string[]): void {
  for (const child of node.childNodes) {
    if (child.nodeType === TEXT_NODE) {
      const text = child.textContent ?? ''
      parts.push(
        preformatted
          ? text.replaceAll(' ', KEPT_SPACE).replace(/\r?\n/g, KEPT_NEWLINE)
          : text.replace(/\s+/g, ' '),
      )
    } else if (child.nodeType === ELEMENT_NODE) {
      const name = child.nodeName.toUpperCase()
      if (IGNORED.has(name)) continue
      if (name === 'BR') parts.push('\n')
      else if (!BLOCKS.has(name)) collect(child, preformatted, parts)
      else {
        parts.push('\n')
        collect(child, preformatted || name === 'PRE', parts)
        parts.push('\n')
      }
    }
  }
}
