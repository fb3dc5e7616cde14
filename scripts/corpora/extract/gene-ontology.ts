/** The Gene Ontology, read from SQLite with sql.js; a document is a term with definition, synonyms and parents. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Extractor, RawDocument } from './document.ts'

const ONTOLOGIES: Readonly<Record<string, string>> = {
  BP: 'biological process',
  MF: 'molecular function',
  CC: 'cellular component',
}

export interface GeneOntology {
  readonly terms: readonly {
    readonly key: number
    readonly id: string
    readonly name: string
    readonly ontology: string
    readonly definition: string | null
  }[]
  readonly synonyms: readonly { readonly key: number; readonly synonym: string }[]
  readonly parents: readonly { readonly key: number; readonly parent: number; readonly relation: string }[]
}

export const geneOntology: Extractor = async function* (folder) {
  const path = 'usr/lib/R/site-library/GO.db/extdata/GO.sqlite'
  yield* termTexts(await readOntology(folder('sql.js'), join(folder('r-bioc-go.db'), path)))
}

/** Skips terms without a definition, and removes references to sources from definitions. */
export function* termTexts({ terms, synonyms, parents }: GeneOntology): Generator<RawDocument> {
  const names = new Map(terms.map(({ key, name }) => [key, name]))
  const synonymsOf = byKey(synonyms)
  const parentsOf = byKey(parents)
  for (const { key, id, name, ontology, definition } of terms) {
    const kind = ONTOLOGIES[ontology]
    if (kind === undefined || definition === null) continue
    const lines = [`${name} (${kind})`, definition.replace(/\s*\[[A-Z]+_?\w*:[^\]]*\]/g, '')]
    // The synonyms of a merged term include its old identifier.
    const also = (synonymsOf.get(key) ?? []).flatMap(({ synonym }) =>
      synonym.startsWith('GO:') ? [] : [synonym],
    )
    if (also.length > 0) lines.push(`Also known as: ${also.join('; ')}.`)
    const above = (parentsOf.get(key) ?? []).flatMap(({ parent, relation }) => {
      const parentName = names.get(parent)
      return parentName === undefined ? [] : [`${relationText(relation)}: ${parentName}`]
    })
    if (above.length > 0) lines.push(`${above.join('; ')}.`)
    yield { id, text: lines.join('\n') }
  }
}

function byKey<T extends { readonly key: number }>(rows: readonly T[]): Map<number, T[]> {
  const groups = new Map<number, T[]>()
  for (const row of rows) {
    const group = groups.get(row.key)
    if (group === undefined) groups.set(row.key, [row])
    else group.push(row)
  }
  return groups
}

function relationText(relation: string): string {
  const words = relation.replace('isa', 'is a').replaceAll('_', ' ')
  return words.charAt(0).toUpperCase() + words.slice(1)
}

/** The part of sql.js that is used. */
interface SqlJs {
  Database: new (
    bytes: Uint8Array,
  ) => {
    prepare(sql: string): { step(): boolean; getAsObject(): unknown; free(): void }
    close(): void
  }
}

async function readOntology(sqlJs: string, path: string): Promise<GeneOntology> {
  const load = createRequire(join(sqlJs, 'package.json'))('./dist/sql-wasm.js') as () => Promise<SqlJs>
  const database = new (await load()).Database(readFileSync(path))
  const rows = <T>(sql: string): T[] => {
    const statement = database.prepare(sql)
    const found: T[] = []
    while (statement.step()) found.push(statement.getAsObject() as T)
    statement.free()
    return found
  }
  try {
    return {
      terms: rows(
        'select _id as key, go_id as id, term as name, ontology, definition from go_term order by _id',
      ),
      synonyms: rows('select _id as key, synonym from go_synonym order by rowid'),
      parents: ['bp', 'mf', 'cc'].flatMap((ontology) =>
        rows<GeneOntology['parents'][number]>(
          `select _id as key, _parent_id as parent, relationship_type as relation from go_${ontology}_parents order by rowid`,
        ),
      ),
    }
  } finally {
    database.close()
  }
}
