/** The documents name only files, headings, scripts and layers that exist. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { LAYERS } from '../../scripts/layers.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const markdownIn = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((path) => path.endsWith('.md'))

const DOCUMENTS = [
  ...['README.md', 'SECURITY.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'models/small/README.md'],
  ...['docs', 'protocols'].flatMap(markdownIn),
  ...markdownIn('examples').filter((path) => !path.includes('/text/')),
]

/** Paths of this repository that a text names in backticks. `NAME` and `*` are placeholders. */
function pathsIn(text: string): string[] {
  const named = /`((?:src|test|scripts|protocols|docs|examples|models)\/[^`\s]*)`/g
  return [...text.matchAll(named)].map(([, path]) => path as string).filter((path) => !/[*{]|NAME/.test(path))
}

/** Anchor of a heading as GitHub computes it, for headings of letters, digits and spaces. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^a-z0-9 -]/g, '')
    .replaceAll(' ', '-')
}

describe('a document', () => {
  it.each(DOCUMENTS)('%s names files that exist', (document) => {
    const missing = pathsIn(read(document)).filter((path) => !existsSync(join(root, path)))
    expect(missing).toEqual([])
  })

  it.each(DOCUMENTS)('%s links to files and headings that exist', (document) => {
    const links = [...read(document).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)]
    for (const [link, path = '', anchor] of links) {
      const target = path === '' ? document : join(dirname(document), path)
      expect([link, existsSync(join(root, target))]).toEqual([link, true])
      if (anchor === undefined) continue
      const headings = [...read(target).matchAll(/^#+ (.+)$/gm)].map(([, text]) => anchorOf(text as string))
      expect(headings).toContain(anchor)
    }
  })

  it.each(DOCUMENTS)('%s runs scripts of package.json', (document) => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    const named = [...read(document).matchAll(/npm run ([a-z:-]+)/g)].map(([, name]) => name)
    expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named))
  })
})

describe('docs/', () => {
  it('describes every layer of src/', () => {
    const layers = read('docs/architecture.md').split('\n## Layers\n')[1] ?? ''
    const named = [...layers.matchAll(/`([a-z.]+)`/g)].map(([, name]) => name)
    expect(named).toEqual(expect.arrayContaining(LAYERS.map(({ name }) => name)))
  })

  it('lists every decision by its title and date', () => {
    const rows = readdirSync(join(root, 'docs/decisions'))
      .filter((name) => /^\d{4}-/.test(name))
      .map((name) => {
        const [, number, title, date] =
          /^# (\d{4})\. (.+)\n\nDate: (\S+)\n/.exec(read(`docs/decisions/${name}`)) ?? []
        return `| [${number}](${name}) | ${title} | ${date} |`
      })
    const listed = read('docs/decisions/README.md')
      .split('\n')
      .filter((line) => line.startsWith('| ['))
    expect(listed).toEqual(rows)
  })
})
