"""Speed of MimicMotion's inference, the released way of computing it beside ours."""
