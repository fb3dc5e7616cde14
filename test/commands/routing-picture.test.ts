import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import type { DomainReport } from '../../src/commands/evaluation-report.ts'
import { routingPicture } from '../../src/commands/routing-picture.ts'
import { report } from '../support/evaluation-report.ts'

const parse = (svg: string) => parseHTML(svg).document

describe('the routing picture', () => {
  it('has a cell with its number for every domain, expert and layer', () => {
    const svg = parse(routingPicture(report()))
    const cells = [...svg.querySelectorAll('rect.cell')]
    expect(cells).toHaveLength(2 * 3 * 2)
    expect(cells.map((cell) => cell.getAttribute('fill-opacity'))).toContain('0.944')
    const texts = [...svg.querySelectorAll('text')].map((text) => text.textContent)
    expect(texts).toEqual(
      expect.arrayContaining(['French law', '医学', 'Archive/law', 'layer', '85', '80 %']),
    )
  })

  it('escapes names and refers to no other file', () => {
    const hostile = '</text><script>alert("1")</script>&\u0000'
    const experts = [
      { id: 'sha256:aa' as const, name: 'x'.repeat(64), institution: 'A & B' },
      { id: 'sha256:bb' as const, name: 'bio', institution: 'Hospital' },
    ]
    const domains = [{ ...(report().domains[0] as DomainReport), name: hostile }]
    const text = routingPicture(report({ experts, domains }))
    expect(text).not.toMatch(/<script|href|url\(/)
    expect(text).not.toContain('\u0000')
    expect(text).toContain('&lt;/text&gt;&lt;script&gt;')
    expect(text).toContain('A &amp; B/')
    expect(parse(text).querySelectorAll('script')).toHaveLength(0)
  })

  it('shows every name as a whole, in several lines if it is long, within the picture', () => {
    const long = 'Königliche Akademie für Wissenschaften, Künste und Gewerbe zu Mühlhausen an der Enz'
    const experts = [
      { id: 'sha256:aa' as const, name: 'W'.repeat(64), institution: long },
      { id: 'sha256:bb' as const, name: '医学'.repeat(20), institution: 'Hospital' },
    ]
    const name = 'MMMM '.repeat(40).trim()
    const [domain] = report().domains as [DomainReport]
    const svg = parse(routingPicture(report({ experts, domains: [{ ...domain, name }] })))
    const width = Number(svg.querySelector('svg')?.getAttribute('width'))
    const texts = [...svg.querySelectorAll('text')]
    const shown = texts.map((text) => text.textContent).join('')
    for (const whole of [name, `${long}/${'W'.repeat(64)}`, `Hospital/${'医学'.repeat(20)}`])
      expect(shown).toContain(whole)
    const [, left = ''] =
      /translate\((\d+)/.exec(svg.querySelector('g')?.getAttribute('transform') ?? '') ?? []
    for (const text of texts) {
      const { length } = [...(text.textContent ?? '')]
      const x = Number(text.getAttribute('x'))
      const name = text.getAttribute('class')
      // The letters W and M and those of CJK are about as wide as the font is high, 12 pixels, in all fonts.
      if (name === 'label' && /^(W+|[医学]+)$/.test(text.textContent ?? ''))
        expect(Number(left) + x - 12 * length).toBeGreaterThanOrEqual(0)
      if (name === 'domain') expect(Number(left) + x + 12 * length).toBeLessThanOrEqual(width)
    }
    const rows = texts.filter((text) => text.getAttribute('class') === 'label')
    const baselines = rows.map((row) => Number(row.getAttribute('y')))
    expect(baselines.every((y, i) => i === 0 || y - (baselines[i - 1] as number) >= 12)).toBe(true)
  })

  it('puts panels into several rows before the picture is wider than a page', () => {
    const domains = Array.from({ length: 20 }, () => report().domains[0] as DomainReport)
    const svg = parse(routingPicture(report({ domains }))).querySelector('svg')
    expect(Number(svg?.getAttribute('width'))).toBeLessThanOrEqual(1200)
    const positions = [...(svg?.querySelectorAll('g') ?? [])].map((panel) => panel.getAttribute('transform'))
    expect(new Set(positions).size).toBe(20)
  })
})
