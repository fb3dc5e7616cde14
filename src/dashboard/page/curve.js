/** The loss of a training by step, as a picture and as a table. Loads the library for curves when it is first shown. */
import { useEffect, useRef } from 'preact/hooks'
import { html } from './html.js'
import { Table } from './parts.js'

let plots
function loadPlots() {
  plots ??= new Promise((resolve, reject) => {
    const style = Object.assign(document.createElement('link'), {
      rel: 'stylesheet',
      href: '/assets/vendor/uplot.css',
    })
    const script = Object.assign(document.createElement('script'), { src: '/assets/vendor/uplot.js' })
    script.onload = () => resolve(globalThis.uPlot)
    script.onerror = () => reject(new Error('the library for curves could not be loaded'))
    document.head.append(style, script)
  })
  return plots
}

const HEIGHT = 180
/** Rows of the table that says what the curve shows. */
const TABLE_ROWS = 10

/** @param points `{ step, loss }` in order */
export function Curve({ points }) {
  const box = useRef(null)
  const plot = useRef(null)
  const data = [points.map(({ step }) => step), points.map(({ loss }) => loss)]
  const latest = useRef(data)
  latest.current = data
  useEffect(() => {
    let isShown = true
    // Observers and drawings may come after the element has left the page, when `box` is empty.
    const element = box.current
    // Read at every drawing, so that the curve follows the theme. Canvases do not know variables of style sheets.
    const colorOf = (one) => getComputedStyle(one).color
    const quiet = () => colorOf(element.parentElement)
    const axis = { stroke: quiet, grid: { stroke: 'rgba(128,128,128,0.2)' }, ticks: { show: false } }
    void loadPlots().then((Plot) => {
      if (!isShown) return
      plot.current = new Plot(
        {
          width: element.clientWidth,
          height: HEIGHT,
          legend: { show: false },
          scales: { x: { time: false } },
          axes: [axis, axis],
          series: [{}, { stroke: () => colorOf(element), width: 2 }],
        },
        latest.current,
        element,
      )
    })
    const redraw = () => plot.current?.redraw()
    const sizes = new ResizeObserver(() =>
      plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }),
    )
    sizes.observe(element)
    const themes = new MutationObserver(redraw)
    themes.observe(document.documentElement, { attributeFilter: ['data-theme'] })
    return () => {
      isShown = false
      sizes.disconnect()
      themes.disconnect()
      plot.current?.destroy()
      plot.current = undefined
    }
  }, [])
  useEffect(() => plot.current?.setData(data), [points.length])
  const every = Math.max(1, Math.ceil(points.length / TABLE_ROWS))
  return html`<div class="quiet"><div class="curve" ref=${box} aria-hidden="true"></div></div>
    <details><summary>The loss as a table</summary>
      <${Table} caption="Loss by step" rows=${points.filter((_, i) => i % every === 0)} keyOf=${({ step }) => step} columns=${[
        { name: 'Step', isNumber: true, of: ({ step }) => step },
        { name: 'Loss', isNumber: true, of: ({ loss }) => loss.toFixed(3) },
        { name: 'Tokens/s', isNumber: true, of: ({ tokensPerSecond }) => Math.round(tokensPerSecond) },
      ]} /></details>`
}
