import { afterEach, describe, expect, it, vi } from 'vitest'
import { createOutput } from '../../src/cli/output.ts'

afterEach(() => {
  vi.unstubAllEnvs()
  vi.useRealTimers()
})

const HOSTILE = 'Bad\u001b]0;title\u0007\u009b2J\r\u202e'
const ESCAPED = 'Bad\\u{1b}]0;title\\u{7}\\u{9b}2J\\u{d}\\u{202e}'

function recorded(json: boolean, isTTY: boolean) {
  vi.stubEnv('NO_COLOR', '')
  vi.stubEnv('TERM', 'xterm')
  const text = { stdout: '', stderr: '' }
  const stream = (name: keyof typeof text) => ({
    isTTY,
    write: (part: string) => {
      text[name] += part
    },
  })
  return { output: createOutput({ stdout: stream('stdout'), stderr: stream('stderr') }, json), text }
}

describe('the output of the command line', () => {
  it('escapes control characters in lines, results and log lines', () => {
    const { output, text } = recorded(false, true)
    output.say(HOSTILE)
    output.result({}, [HOSTILE])
    output.log(HOSTILE)
    expect(text).toEqual({ stdout: `${ESCAPED}\n${ESCAPED}\n`, stderr: `${ESCAPED}\n` })
  })

  it('replaces a screen on a terminal, and escapes its lines', () => {
    const { output, text } = recorded(false, true)
    output.screen({}, ['a', HOSTILE])
    output.screen({}, ['b'])
    const home = '\u001b[H\u001b[J'
    expect(text.stdout).toBe(`${home}a\n${ESCAPED}\n${home}b\n`)
  })

  it.each([
    [false, 'a\nb\na\n'],
    [true, '{"n":1}\n{"n":2}\n{"n":1}\n'],
  ])('prints screens one after the other elsewhere, if they differ: json %s', (json, expected) => {
    const { output, text } = recorded(json, false)
    output.screen({ n: 1 }, ['a'])
    output.screen({ n: 1 }, ['a'])
    output.screen({ n: 2 }, ['b'])
    output.screen({ n: 1 }, ['a'])
    expect(text.stdout).toBe(expected)
  })

  it('escapes control characters in progress, which stays on one line', () => {
    const { output, text } = recorded(false, true)
    output.progress(`${HOSTILE}\nend`)
    expect(text.stdout).toBe(`${ESCAPED}\\u{a}end`)
  })

  it('prints the latest progress now and then where lines cannot be replaced, and stops at the result', () => {
    vi.useFakeTimers()
    const { output, text } = recorded(false, false)
    output.progress('1 of 9')
    output.progress(`2 of 9${HOSTILE}`)
    expect(text.stdout).toBe('')
    vi.advanceTimersByTime(30_000)
    expect(text.stdout).toBe(`2 of 9${ESCAPED}\n`)
    output.say('read')
    vi.advanceTimersByTime(30_000)
    output.progress('scoring')
    vi.advanceTimersByTime(60_000)
    output.result({}, ['done'])
    vi.advanceTimersByTime(60_000)
    expect(text.stdout).toBe(`2 of 9${ESCAPED}\nread\nscoring\nscoring\ndone\n`)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('prints no progress after an empty line has ended it', () => {
    vi.useFakeTimers()
    const { output, text } = recorded(false, false)
    output.progress('1 of 9')
    output.progress('')
    vi.advanceTimersByTime(60_000)
    expect(text.stdout).toBe('')
    expect(vi.getTimerCount()).toBe(0)
  })

  it('prints progress on the standard error with --json', () => {
    vi.useFakeTimers()
    const { output, text } = recorded(true, false)
    output.progress('1 of 9')
    vi.advanceTimersByTime(30_000)
    output.say('read')
    vi.advanceTimersByTime(30_000)
    output.result({ done: true }, [])
    expect(text).toEqual({ stdout: '{"done":true}\n', stderr: '1 of 9\n' })
  })

  it('replaces a line of progress, and leaves an empty line after an empty one', () => {
    const { output, text } = recorded(false, true)
    output.progress('1 of 2')
    output.progress('')
    expect(text.stdout).toBe('1 of 2\r\u001b[2K')
  })

  it('keeps line ends, tabs, joiners, and the styles of the commands', () => {
    const { output, text } = recorded(false, true)
    const line = 'one\n\ttwo 👩\u200d🔬 \u001b[1m0.5*\u001b[22m \u001b[38;5;40m█\u001b[39m'
    output.say(line)
    expect(text.stdout).toBe(`${line}\n`)
  })

  it('escapes other styles, and every style where there are no colours', () => {
    const hidden = recorded(false, true)
    hidden.output.say('\u001b[8mhidden')
    expect(hidden.text.stdout).toBe('\\u{1b}[8mhidden\n')
    const plain = recorded(false, false)
    plain.output.say('\u001b[1mbold')
    expect(plain.text.stdout).toBe('\\u{1b}[1mbold\n')
  })

  it('prints JSON without control characters, and with the same value', () => {
    const { output, text } = recorded(true, true)
    output.result({ name: HOSTILE }, [])
    expect(text.stdout).toMatch(/^\P{Cc}+\n$/u)
    expect(JSON.parse(text.stdout)).toEqual({ name: HOSTILE })
  })
})
