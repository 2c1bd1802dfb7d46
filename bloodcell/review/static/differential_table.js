// The differential as it counts now.
import { html } from "./html.js";
import { drop_target } from "./drag.js";
import { differential, is_withheld, waiting_result } from "./state.js";
import { count, interval, number, said, t, visible } from "./texts.js";

const FLAGS = {
  high: () => ["▲", t("high")],
  low: () => ["▼", t("low")],
  possibly_high: () => ["△", t("possibly high")],
  possibly_low: () => ["▽", t("possibly low")],
};

/** A flag with its arrow and its words. */
export function Flag({ flag }) {
  const [arrow, words] = (FLAGS[flag] ?? (() => ["▲", visible(flag)]))();
  return html`<span class=${`chip flag ${flag}`}>${arrow} ${words}</span>`;
}

/** The table of lines, and the counts beside it. */
export function Differential() {
  const shown = differential.value;
  if (!shown)
    return html`<section class="differential" aria-labelledby="differential-title">
      <h2 id="differential-title">${t("Differential")}</h2>
      <p class="notice">${t("No result yet")}</p>
    </section>`;
  const has_absolute = shown.lines.some(({ absolute }) => absolute !== null);
  return html`<section class=${is_withheld.value ? "differential withheld" : "differential"}
      aria-labelledby="differential-title">
    <h2 id="differential-title">${t("Differential")} <small>${t("leucocytes: {n}", { n: count(shown.n_leucocytes) })}</small></h2>
    ${waiting_result.value && html`<p
        class="notice warning">${t("Version {version}, not signed", { version: waiting_result.value.version })}</p>`}
    ${is_withheld.value && html`<p
        class="notice warning">${t("Withheld: not reportable before a person has looked at the slide.")}</p>`}
    ${!shown.is_sufficient && html`<p class="notice">${t("The count is insufficient; see the intervals.")}</p>`}
    <table class="lines">
      <thead><tr>
        <th scope="col">${t("Leucocytes")}</th>
        <th scope="col" class="number">${t("Cells")}</th>
        <th scope="col" class="number">%</th>
        ${has_absolute && html`<th scope="col" class="number">10⁹/l</th>`}
        <th scope="col" class="number">${t("95 % interval")}<br />${t("worst case")}</th>
        <th scope="col" class="drawn">${t("Reference")}</th>
      </tr></thead>
      <tbody>${shown.lines.map((line) => html`<${Line} key=${line.line} line=${line}
          has_absolute=${has_absolute} />`)}</tbody>
    </table>
    <${Counts} shown=${shown} />
  </section>`;
}

function Line({ line, has_absolute }) {
  const [low, high] = line.range ?? [null, null];
  return html`<tr ...${drop_target(line.line)} class=${line.n ? "" : "none"}>
    <th scope="row">${said(line.name)} ${line.flag && html`<${Flag} flag=${line.flag} />`}
      ${line.n_unverified > 0 && html`<span class="quiet">${t("unverified: {n}", { n: line.n_unverified })}</span>`}
      ${line.n_labelled > 0 && html`<span class="quiet">✎ ${line.n_labelled}<span
          class="unseen"> ${t("labelled by a person")}</span></span>`}</th>
    <td class="number">${count(line.n)}</td>
    <td class="number share">${number(line.percentage)}</td>
    ${has_absolute && html`<td class="number">${number(line.absolute, 2)}</td>`}
    <td class="number quiet">${interval(line.lower, line.upper)}<br />${interval(line.bound_lower, line.bound_upper)}</td>
    <td class="drawn"><${Bar} line=${line} low=${low} high=${high} /><span
        class="quiet">${low === null ? "" : interval(low, high)}</span></td>
  </tr>`;
}

function Bar({ line, low, high }) {
  return html`<svg class="bar" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">
    ${low !== null && html`<rect class="band" x=${low} width=${Math.max(high - low, 1)} y="0" height="14" />`}
    <path class="axis" d="M0 0v14M50 0v14M100 0v14" />
    <rect class="value" y="4" height="6" width=${line.percentage ?? 0} />
    ${line.lower !== null && html`<path class="whisker"
        d=${`M${line.lower} 7H${line.upper}M${line.lower} 3v8M${line.upper} 3v8`} />`}
  </svg>`;
}

function Counts({ shown }) {
  const { nrbc } = shown;
  return html`<dl class="counts">
    <div ...${drop_target("erythroblast")}><dt>${t("NRBC per 100 WBC")}</dt>
        <dd>${number(nrbc.per_100_wbc)} ${nrbc.flag && html`<${Flag} flag=${nrbc.flag} />`}</dd><dd
        class="quiet">${t("erythroblasts: {n}", { n: nrbc.n })} (${interval(nrbc.lower, nrbc.upper)})</dd></div>
    <div><dt>${t("Unclassified")}</dt><dd>${count(shown.unclassified.n)}</dd><dd
        class="quiet">${shown.unclassified.percentage === null ? "" : `${number(shown.unclassified.percentage)} %`}</dd></div>
    <div><dt>${t("Contested")}</dt><dd>${count(shown.n_contested)}</dd><dd class="quiet">${t("in no percentage")}</dd></div>
    <div ...${drop_target("platelet")}><dt>${t("Platelet images")}</dt><dd>${count(shown.n_platelets)}</dd><dd
        class="quiet">${t("no concentration")}</dd></div>
    ${shown.others.map(({ line, name, n }) => html`<div key=${line} ...${drop_target(line)}><dt>${said(name)}</dt>
        <dd>${count(n)}</dd><dd class="quiet">${t("not counted")}</dd></div>`)}
  </dl>`;
}
