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

  it('escapes names, shortens long ones and refers to no other file', () => {
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
    expect(text).toContain(`<title>A &amp; B/${'x'.repeat(64)}</title>`)
    expect(parse(text).querySelectorAll('script')).toHaveLength(0)
  })

  it('puts panels into several rows before the picture is wider than a page', () => {
    const domains = Array.from({ length: 20 }, () => report().domains[0] as DomainReport)
    const svg = parse(routingPicture(report({ domains }))).querySelector('svg')
    expect(Number(svg?.getAttribute('width'))).toBeLessThanOrEqual(1200)
    const positions = [...(svg?.querySelectorAll('g') ?? [])].map((panel) => panel.getAttribute('transform'))
    expect(new Set(positions).size).toBe(20)
  })
})
