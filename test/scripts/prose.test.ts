/** Comments keep clear of the habits that made the code hard to read for newcomers. CONTRIBUTING.md has the rules. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const HABITS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['a comment that begins with "Of"', /^Of\b/],
  ['"what is none", "who is none"', /\b(what|who|which) (is|are) none\b/],
  ['"where there is none"', /\bwhere there (is|are) none\b/],
  ['"said, not refused"', /\bsaid, not refused\b/],
]

/** Texts of the block, line and trailing comments of a source file, without their marks. */
function commentsOf(source: string): string[] {
  const blocks = [...source.matchAll(/\/\*\*?([\s\S]*?)\*\//g)].map(([, text = '']) =>
    text.replaceAll(/\n\s*\* ?/g, ' ').trim(),
  )
  const lines = [...source.matchAll(/(?:^|\s)\/\/ (.*)$/gm)].map(([, text = '']) => text.trim())
  return [...blocks, ...lines]
}

function habitsIn(comment: string): string[] {
  return HABITS.filter(([, pattern]) => pattern.test(comment)).map(([name]) => name)
}

it('a habit would be noticed', () => {
  const source = "/**\n * Of the machine's memory.\n */\nconst a = 1 // what is none is refused\n// plain\n"
  expect(commentsOf(source).flatMap(habitsIn)).toEqual([HABITS[0]?.[0], HABITS[1]?.[0]])
})

it.each(['src', 'scripts', 'test'])('comments in %s have none of them', async (folder) => {
  const files = (await readdir(join(root, folder), { recursive: true })).filter(
    (file) => file.endsWith('.ts') && !file.includes('node_modules') && !file.endsWith('prose.test.ts'),
  )
  const found: string[] = []
  for (const file of files) {
    const source = await readFile(join(root, folder, file), 'utf8')
    for (const comment of commentsOf(source)) {
      for (const habit of habitsIn(comment))
        found.push(`${folder}/${file}: ${habit}: ${comment.slice(0, 80)}`)
    }
  }
  expect(files.length).toBeGreaterThan(10)
  expect(found).toEqual([])
})
