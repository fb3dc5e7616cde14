import { describe, expect, it } from 'vitest'
import { ExchangeError } from '../../src/lib/errors.ts'
import { Log, type LogEntry, SILENT } from '../../src/telemetry/log.ts'
import { LOG_LEVELS, type LogLevel, type LogLevels, parseLogLevels } from '../../src/telemetry/log-levels.ts'
import { logLines, prettyLine } from '../../src/telemetry/log-lines.ts'

function recording(level?: LogLevel | LogLevels): { log: Log; entries: LogEntry[] } {
  const entries: LogEntry[] = []
  return { log: new Log((entry) => entries.push(entry), level), entries }
}

describe('a log', () => {
  it.each(LOG_LEVELS)('at level %s passes entries of this level and more severe ones', (level) => {
    const { log, entries } = recording(level)
    for (const one of LOG_LEVELS) log[one](one)
    expect(entries.map(({ message }) => message)).toEqual(LOG_LEVELS.slice(0, LOG_LEVELS.indexOf(level) + 1))
  })

  it('passes warnings and errors by default', () => {
    const { log, entries } = recording()
    for (const one of LOG_LEVELS) log[one](one)
    expect(entries.map(({ level }) => level)).toEqual(['error', 'warn'])
  })

  it('names the part of the node and keeps the level for it', () => {
    const { log, entries } = recording('info')
    const part = log.part('exchange')
    part.info('started')
    part.debug('not shown')
    expect(entries).toEqual([{ level: 'info', part: 'exchange', message: 'started' }])
  })

  it('adds the message and the code of an error, and none of its fields', () => {
    const { log, entries } = recording()
    log.warn('the sync failed', new ExchangeError('timeout', 'no answer', { token: 'secret' }))
    log.error('the disk failed', new Error('EIO'))
    log.error('the worker failed', 'code 3')
    expect(entries.map(lineOf)).toEqual([
      'warn node: the sync failed: no answer (timeout)',
      'error node: the disk failed: EIO',
      'error node: the worker failed: code 3',
    ])
  })

  it('keeps an entry on one line, whatever a peer wrote into an error', () => {
    const { log, entries } = recording()
    log.warn('refused', new Error('bad\nerror node: forged\r\u001b[2K\u2028\u202eend'))
    const line = lineOf(entries[0] as LogEntry)
    expect(line).toBe('warn node: refused: bad\\u{a}error node: forged\\u{d}\\u{1b}[2K\\u{2028}\\u{202e}end')
  })

  it('has a level for each part that names one', () => {
    const { log, entries } = recording(parseLogLevels('error,network=debug', 'warn', '--log-level'))
    log.part('network').debug('shown')
    log.part('network').trace('not shown')
    log.part('api').warn('not shown')
    expect(entries).toEqual([{ level: 'debug', part: 'network', message: 'shown' }])
  })

  it('names the request that an entry is about, in every part', () => {
    const { log, entries } = recording()
    log.request('req-1').part('api').warn('failed')
    expect(entries).toEqual([{ level: 'warn', part: 'api', message: 'failed', requestId: 'req-1' }])
  })

  it('does not repeat the text that a parser quotes', () => {
    const { log, entries } = recording()
    for (const text of ['{"prompt": "secret" and more', 'secret']) {
      try {
        JSON.parse(text)
      } catch (error) {
        log.error('an answer was refused', error)
      }
    }
    expect(entries).toHaveLength(2)
    expect(JSON.stringify(entries)).not.toContain('secret')
  })

  it('drops everything when silent', () => {
    expect(SILENT.error('nobody reads this', new Error('lost'))).toBe(undefined)
    expect(SILENT.part('api').warn('nor this')).toBe(undefined)
  })
})

describe('levels as text', () => {
  it.each([
    ['debug', { default: 'debug', parts: {} }],
    ['network=trace', { default: 'warn', parts: { network: 'trace' } }],
    ['info, network=debug, api=error', { default: 'info', parts: { network: 'debug', api: 'error' } }],
  ])('%s', (text, levels) => {
    expect(parseLogLevels(text, 'warn', '--log-level')).toEqual(levels)
  })

  it.each([
    ['verbose', 'expected one of error, warn, info, debug, trace, got "verbose"'],
    ['network=loud', 'expected one of error, warn, info, debug, trace, got "loud"'],
    ['netwrok=info', 'got "netwrok", nearest is "network"'],
    ['info,debug', 'expected one level for the whole node, got "info" and "debug"'],
    ['a=b=c', 'expected LEVEL or PART=LEVEL, got "a=b=c"'],
    ['', 'got ""'],
  ])('refuses "%s"', (text, message) => {
    expect(() => parseLogLevels(text, 'warn', '--log-level')).toThrow(message)
  })
})

describe('a line of the log', () => {
  const entry: LogEntry = { level: 'warn', part: 'api', message: 'a\nb', code: 'timeout', requestId: 'req-1' }

  it('in JSON is one object with time, level, part, message, code and request', () => {
    const lines: string[] = []
    const sink = logLines('json', (line) => lines.push(line))
    sink(entry)
    sink({ level: 'trace', part: 'node', message: 'plain' })
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      {
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
        level: 'warn',
        part: 'api',
        code: 'timeout',
        requestId: 'req-1',
        msg: 'a\\u{a}b',
      },
      { time: expect.any(String), level: 'trace', part: 'node', msg: 'plain' },
    ])
  })

  it('for people begins with the time', () => {
    expect(prettyLine(entry, new Date(0))).toBe('1970-01-01T00:00:00.000Z warn api: a\\u{a}b (timeout) req-1')
  })
})

/** A line without its time. */
function lineOf(entry: LogEntry): string {
  return prettyLine(entry, new Date(0)).slice('1970-01-01T00:00:00.000Z '.length)
}
