// Colours Netron's nodes by sparsity, marks quantized ones, and puts our figures of a clicked node first. Reads {node name: {sparsity, bits, full, layer}} from ?marks=.
const parameters = new URLSearchParams(window.location.search);
const address = parameters.get("marks");
if (address && address.startsWith("/models/")) {
    fetch(address).then((response) => (response.ok ? response.json() : {})).catch(() => ({})).then((marks) => {
        const raise = () => { // Netron lists metadata last, below what fits into the frame
            for (const section of document.querySelectorAll(".sidebar-section")) {
                if (section.textContent !== "Metadata" || section.matches(".x-raised")) continue;
                const rows = [];
                for (let row = section.nextElementSibling; row && row.matches(".sidebar-item"); row = row.nextElementSibling) rows.push(row);
                if (!rows.some((row) => row.querySelector("input")?.value.endsWith("sparsity"))) continue;
                section.classList.add("x-raised");
                section.parentElement.prepend(section, ...rows);
            }
        };
        const paint = () => {
            raise();
            for (const [name, mark] of Object.entries(marks)) {
                const group = document.getElementById(`node-name-${name}`);
                if (!group) continue;
                const items = group.matches(".node-item") ? [group] : group.querySelectorAll(".node-item");
                const first = items[0];
                if (!first || first.classList.contains("x-mark")) continue;
                first.classList.add("x-mark");
                if (mark.bits < (mark.full ?? 32)) first.classList.add("x-quantized");
                first.style.setProperty("--x-sparsity", `${(100 * mark.sparsity).toFixed(1)}%`);
                document.documentElement.dataset.marked = String(document.querySelectorAll(".x-mark").length);
            }
        };
        new MutationObserver(paint).observe(document.body, { childList: true, subtree: true });
        paint();
    });
}
