// The page of a slide.
import { html, render } from "./html.js";
import { CellView } from "./cell_view.js";
import { Gallery } from "./gallery.js";
import { Help } from "./help.js";
import { listen_to_keys } from "./keys.js";
import { LabelMenu } from "./label_menu.js";
import { sending } from "./labelling.js";
import { LeaseBanner, keep_slide } from "./lease.js";
import { LogInOverlay } from "./log_in_overlay.js";
import { Notices } from "./notices.js";
import { begin, go_to_cell } from "./selection.js";
import { WaitingBanner } from "./sending_status.js";
import { SidePanel } from "./side_panel.js";
import { person } from "./state.js";
import { Toolbar } from "./toolbar.js";

function Desk() {
  return html`<div class="desk">
      <div class="cells-side">
        <div class="sticky"><${LeaseBanner} /><${WaitingBanner} sending=${sending} /><${Toolbar} /></div>
        <${Gallery} />
      </div>
      <${SidePanel} />
    </div>
    <${CellView} /><${LabelMenu} /><${Help} /><${LogInOverlay} name=${person.name} /><${Notices}
        go_to=${go_to_cell} />`;
}

begin();
render(html`<${Desk} />`, document.getElementById("desk"));
listen_to_keys();
keep_slide();
sending.send_now();
