import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { commandLine, completeCommands, ownCommand } from '../../src/lib/command-line.ts'

/** The words of a command line, as a shell reads them. */
function shellWords(line: string): string[] {
  return execFileSync('sh', ['-c', `printf '%s\\n' ${line}`], { encoding: 'utf8' })
    .split('\n')
    .slice(0, -1)
}

const WORDS = [
  'plain',
  '/srv/node-1',
  'two words',
  "St. Anna's",
  'a "quoted" name',
  '$(id) `id` \\ $HOME',
  '*',
  '#1',
  '~',
  '',
  'é',
]

describe('a command line', () => {
  it('reads in a shell as the words that it was written from', () => {
    expect(shellWords(commandLine(['approve', ...WORDS]))).toEqual(['flexmesh', 'approve', ...WORDS])
  })

  it('has no quotes that a shell does not need', () => {
    expect(commandLine(['start', '--home', '/srv/a', '--listen', '/ip4/0.0.0.0/tcp/4001'])).toBe(
      'flexmesh start --home /srv/a --listen /ip4/0.0.0.0/tcp/4001',
    )
  })
})

describe('a message with commands', () => {
  const options = ['--home', '/srv/my node']
  const complete = "--home '/srv/my node'"

  it.each([
    ['is completed', `run ${ownCommand('gc')} first`, `run "flexmesh gc ${complete}" first`],
    ['is not quoted after a colon', `next: ${ownCommand('start')}`, `next: flexmesh start ${complete}`],
    [
      'is quoted if the sentence goes on',
      `next: ${ownCommand('start')} there`,
      `next: "flexmesh start ${complete}" there`,
    ],
    [
      'is completed twice',
      `answer with: ${ownCommand('endorse', 'ab')}, or: ${ownCommand('reject', 'ab')}`,
      `answer with: flexmesh endorse ab ${complete}, or: flexmesh reject ab ${complete}`,
    ],
    [
      'is completed after a name with quotes and backticks',
      `run: ${ownCommand('approve', "`Anna's`")}`,
      `run: flexmesh approve '\`Anna'\\''s\`' ${complete}`,
    ],
    ['stays if somebody else runs it', 'ask A to run "flexmesh invite"', 'ask A to run "flexmesh invite"'],
  ])('%s', (_, message, completed) => {
    expect(completeCommands(message, options)).toBe(completed)
  })
})
