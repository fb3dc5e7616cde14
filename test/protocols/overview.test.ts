import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { PROTOCOLS } from '../../src/exchange/protocols.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import {
  PROTOCOL_NAMES,
  protocolFile,
  specification,
  tableRows,
  vectorFiles,
} from '../support/specifications.ts'

const root = new URL('../../', import.meta.url)
const ROWS = tableRows(protocolFile('README.md')).map(
  ([link = '', , id = '', version, maturity, schema, vectors, implementedIn]) => ({
    name: /^\[(.+)\]/.exec(link)?.[1] ?? '',
    link: /\((.+)\)$/.exec(link)?.[1],
    ids: expand(id),
    version,
    maturity,
    schema,
    vectors,
    implementedIn: implementedIn?.split(', '),
  }),
)

/** `a{b,c}d` as `abd` and `acd`. */
function expand(pattern: string): string[] {
  const [, before, choices, after] = /^(.*)\{(.*)\}(.*)$/.exec(pattern) ?? []
  return choices === undefined ? [pattern] : choices.split(',').map((choice) => `${before}${choice}${after}`)
}

describe('the overview of protocols', () => {
  it('has one row for each folder', () => {
    expect(ROWS.map(({ name }) => name).sort()).toEqual(PROTOCOL_NAMES)
  })

  it('names every stream protocol, and every payload type that a specification describes', () => {
    const ids = ROWS.flatMap((row) => row.ids)
    const text = PROTOCOL_NAMES.map(specification).join('\n')
    const types = Object.values(MEDIA_TYPES).filter((type) => text.includes(`\`${type}\``))
    expect(ids).toEqual(expect.arrayContaining([...PROTOCOLS.map(({ row }) => row.id), ...types]))
  })

  it.each(ROWS)('says of $name what its specification says', (row) => {
    const readme = specification(row.name)
    const [stage] = tableRows(readme.split('\n## ')[0] ?? '')
    expect([row.maturity, row.version]).toEqual([stage?.[1], stage?.[3]])
    const [, paths = '', schema] = /Implemented in (.*?)\. Schema: `(.+?)`\./s.exec(readme) ?? []
    expect(row.implementedIn).toEqual([...paths.matchAll(/`([^`]+)`/g)].map(([, path]) => path))
    expect(row.schema).toBe(schema)
    for (const id of row.ids) expect(readme).toContain(id)
  })

  it.each(ROWS)('counts the vectors of $name, and names files that exist', (row) => {
    expect(row.vectors).toBe(String(vectorFiles(row.name).length))
    expect(row.link).toBe(`${row.name}/README.md`)
    for (const path of [...(row.implementedIn ?? []), `protocols/${row.name}/${row.schema}`])
      expect([path, existsSync(new URL(path, root))]).toEqual([path, true])
  })
})
