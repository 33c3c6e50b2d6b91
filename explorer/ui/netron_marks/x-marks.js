// Colours Netron's nodes by sparsity and marks quantized ones. Reads {node name: {sparsity, bits, full, layer}} from ?marks=.
const parameters = new URLSearchParams(window.location.search);
const address = parameters.get("marks");
if (address && address.startsWith("/models/")) {
    fetch(address).then((response) => (response.ok ? response.json() : {})).catch(() => ({})).then((marks) => {
        const paint = () => {
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
